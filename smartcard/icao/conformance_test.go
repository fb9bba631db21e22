package icao_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// The rows of BSI TR-03105 Part 5.1 that a reader decides, by their numbers:
// units ISO7816_A to D, F and G. What is left of them is for smartcard/trust.

// deviation is a card that is in order but for one thing.
type deviation struct {
	row, what string
	opts      idcard.Options
	edit      func(*idcard.Exchange)
	mrz       bool  // opened with the MRZ, else with the CAN
	want      error // nil: everything is read
	check     func(*testing.T, *icao.Chip, *between)
}

func (d deviation) run(t *testing.T) {
	s := newSpecimen(t)
	if d.edit != nil {
		before := d.opts.Chip
		d.opts.Chip = func(p *idcard.Profile) {
			p.Edit = d.edit
			if before != nil {
				before(p)
			}
		}
	}
	chip := s.card(t, d.opts)
	pw := icao.CAN(secret.FromString(idcard.SpecimenPerson().CAN))
	if d.mrz {
		pw = mrz(t, chip)
	}
	b := &between{card: chip.Direct()}
	c, err := icao.Open(t.Context(), b, pw, icao.Options{})
	if err == nil {
		defer c.Close()
		err = inspect(t.Context(), c)
	}
	if !errors.Is(err, d.want) || d.want == nil && err != nil {
		t.Fatalf("error %v, want %v", err, d.want)
	}
	if d.check != nil {
		d.check(t, c, b)
	}
}

// inspect runs everything, in the order that is quickest.
func inspect(ctx context.Context, c *icao.Chip) error {
	doc, err := c.ReadAll(ctx, []lds.File{lds.DG14}, nil)
	if err != nil {
		return err
	}
	if file, ok := doc.Files[lds.DG14]; ok {
		infos, err := lds.ParseDG14(file)
		if err != nil {
			return err
		}
		if err := c.AuthenticateChip(ctx, infos); err != nil {
			return err
		}
	}
	if doc, err = c.ReadAll(ctx, all, nil); err != nil {
		return err
	}
	if _, ok := doc.Files[lds.DG15]; ok {
		_, err = c.AuthenticateActive(ctx, [8]byte{8, 7, 6, 5, 4, 3, 2, 1})
	}
	return err
}

func conform(t *testing.T, list []deviation) {
	rows := map[string][]deviation{}
	var order []string
	for _, d := range list {
		if rows[d.row] == nil {
			order = append(order, d.row)
		}
		rows[d.row] = append(rows[d.row], d)
	}
	for _, row := range order {
		t.Run(row, func(t *testing.T) {
			for _, d := range rows[row] {
				t.Run(d.what, d.run)
			}
		})
	}
}

// status answers step with a status word, under secure messaging if there is any.
func status(step idcard.Step, sw apdu.Status) func(*idcard.Exchange) {
	return func(e *idcard.Exchange) {
		if e.Step == step && !e.Wire {
			e.Answer = apdu.Response{Status: sw}
		}
	}
}

// object changes the objects inside 7C of the answer to one step.
func object(step idcard.Step, change func([]tlv.Node) []byte) func(*idcard.Exchange) {
	return func(e *idcard.Exchange) {
		if e.Step != step || e.Wire || e.Answer.Status != apdu.OK {
			return
		}
		outer, err := tlv.ParseOne(e.Answer.Data, 0x7C)
		if err != nil {
			return
		}
		nodes, err := outer.Children()
		if err == nil {
			e.Answer.Data = tlv.Encode(0x7C, change(nodes))
		}
	}
}

// retag gives the object with a tag another.
func retag(step idcard.Step, from, to tlv.Tag) func(*idcard.Exchange) {
	return object(step, func(nodes []tlv.Node) (out []byte) {
		for _, n := range nodes {
			if n.Tag == from {
				n.Tag = to
			}
			out = append(out, tlv.Encode(n.Tag, n.Value)...)
		}
		return out
	})
}

// revalue gives the object with a tag another value.
func revalue(step idcard.Step, tag tlv.Tag, change func([]byte) []byte) func(*idcard.Exchange) {
	return object(step, func(nodes []tlv.Node) (out []byte) {
		for _, n := range nodes {
			if n.Tag == tag {
				n.Value = change(bytes.Clone(n.Value))
			}
			out = append(out, tlv.Encode(n.Tag, n.Value)...)
		}
		return out
	})
}

func fixed(b ...byte) func([]byte) []byte { return func([]byte) []byte { return b } }

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
}

func pace(m idcard.Mapping, s idcard.Suite, d idcard.Domain) idcard.Options {
	return idcard.Options{PACE: []idcard.PACE{{Mapping: m, Suite: s, Domain: d}}}
}

// master changes a file of the master file.
func master(fid uint16, change func([]byte) []byte) idcard.Options {
	return idcard.Options{Chip: func(p *idcard.Profile) { p.Master[fid] = change(bytes.Clone(p.Master[fid])) }}
}

func access(want string) func(*testing.T, *icao.Chip, *between) {
	return func(t *testing.T, c *icao.Chip, _ *between) {
		if got := c.Document().Access; got != want {
			t.Errorf("access %q, want %q", got, want)
		}
	}
}

func TestConformanceApplication(t *testing.T) {
	open := func(p *idcard.Profile) { p.Open, p.BAC, p.PACE = true, false, nil; delete(p.Master, 0x011C) }
	list := []deviation{
		{row: "ISO7816_A_01", what: "CAN", opts: idcard.Options{Chip: open}, check: access("none")},
		{row: "ISO7816_A_01", what: "MRZ", opts: idcard.Options{Chip: open}, mrz: true, check: access("none")},
		{row: "ISO7816_A_02", what: "BAC", opts: idcard.Options{Faults: []idcard.Fault{idcard.BACOnly}}, mrz: true, check: access("BAC")},
	}
	for _, sw := range []apdu.Status{apdu.FileNotFound, apdu.FunctionNotSupported, apdu.UnknownError} {
		list = append(list, deviation{row: "ISO7816_A_03", what: sw.Error(), edit: status(idcard.StepSelectApplication, sw), want: icao.ErrNotEMRTD})
	}
	conform(t, list)
}

func TestConformanceBAC(t *testing.T) {
	bac := idcard.Options{Faults: []idcard.Fault{idcard.BACOnly}}
	var earlier []byte
	s := newSpecimen(t)
	other := bac
	other.Chip = func(p *idcard.Profile) {
		p.Edit = func(e *idcard.Exchange) {
			if e.Step == idcard.StepMutual && e.Wire {
				earlier = bytes.Clone(e.Answer.Data)
			}
		}
	}
	chip := s.card(t, other)
	open(t, chip.Direct(), mrz(t, chip), icao.Options{})
	mutual := func(change func([]byte) []byte) func(*idcard.Exchange) {
		return func(e *idcard.Exchange) {
			if e.Step == idcard.StepMutual && e.Wire {
				e.Answer.Data = change(bytes.Clone(e.Answer.Data))
			}
		}
	}
	list := []deviation{
		{row: "ISO7816_B_01", what: "MAC", opts: bac, mrz: true, edit: mutual(flip(-1)), want: icao.ErrSecureMessaging},
		{row: "ISO7816_B_02", what: "of an earlier session", opts: bac, mrz: true, edit: mutual(func([]byte) []byte { return earlier }), want: icao.ErrSecureMessaging},
		{row: "ISO7816_B_02", what: "cut", opts: bac, mrz: true, edit: mutual(func(b []byte) []byte { return b[:32] }), want: icao.ErrMalformed},
		{row: "ISO7816_B_03", what: "6300", opts: bac, mrz: true, edit: status(idcard.StepMutual, 0x6300), want: icao.ErrWrongPassword},
		{row: "ISO7816_B_03", what: "6F00", opts: bac, mrz: true, edit: status(idcard.StepMutual, apdu.UnknownError), want: icao.ErrChipRefused},
	}
	conform(t, list)
}

// Whatever is wrong with a protected answer, nothing is sent over that channel
// again.
func TestConformanceSecureMessaging(t *testing.T) {
	sod := func(wire bool, change func(*apdu.Response)) func(*idcard.Exchange) {
		return func(e *idcard.Exchange) {
			if e.Step == idcard.StepRead && e.File == lds.EFSOD.FID() && e.Wire == wire {
				change(&e.Answer)
			}
		}
	}
	without := func(tag tlv.Tag) func(*apdu.Response) {
		return func(r *apdu.Response) {
			nodes, _ := tlv.Parse(r.Data)
			r.Data = nil
			for _, n := range nodes {
				if n.Tag != tag {
					r.Data = append(r.Data, n.Raw...)
				}
			}
		}
	}
	var list []deviation
	add := func(row, what string, edit func(*idcard.Exchange)) {
		for name, opts := range map[string]idcard.Options{"AES": {}, "3DES": {ChipSuite: idcard.TripleDES}} {
			list = append(list, deviation{row: row, what: what + ", " + name, opts: opts, edit: edit, want: icao.ErrSecureMessaging,
				check: func(t *testing.T, c *icao.Chip, b *between) {
					sent := len(b.commands)
					if _, err := c.Read(t.Context(), lds.DG12); !errors.Is(err, icao.ErrSecureMessaging) {
						t.Errorf("afterwards: %v", err)
					}
					if len(b.commands) != sent {
						t.Error("a dead channel was used")
					}
				}})
		}
	}
	for _, sw := range []apdu.Status{apdu.SMObjectsMissing, apdu.SMObjectsIncorrect, apdu.SMNotSupported} {
		add("ISO7816_B_04", sw.Error(), sod(true, func(r *apdu.Response) { *r = apdu.Response{Status: sw} }))
	}
	add("ISO7816_B_05", "no MAC", sod(true, without(0x8E)))
	add("ISO7816_B_06", "taken out", sod(true, without(0x87)))
	add("ISO7816_B_06", "never in", sod(false, func(r *apdu.Response) { r.Data = nil }))
	add("ISO7816_B_07", "no status", sod(true, without(0x99)))
	add("ISO7816_B_08", "wrong MAC", sod(true, func(r *apdu.Response) { r.Data[len(r.Data)-1] ^= 1 }))
	add("ISO7816_B_09", "damaged", sod(true, func(r *apdu.Response) { r.Data[9] ^= 1 }))
	slices.SortStableFunc(list, func(a, b deviation) int { return strings.Compare(a.row, b.row) })
	conform(t, list)
}

func TestConformanceReading(t *testing.T) {
	large := idcard.Options{DG2: idcard.FaceGroup{Size: 33000}}
	whole := func(t *testing.T, c *icao.Chip, _ *between) {
		if face, err := lds.ParseDG2(c.Document().Files[lds.DG2]); err != nil || len(face) != 1 {
			t.Errorf("DG2: %v", err)
		}
	}
	list := []deviation{
		{row: "ISO7816_C_01", what: "DG2", edit: func(e *idcard.Exchange) {
			if e.File == lds.DG2.FID() && !e.Wire {
				e.Answer = apdu.Response{Status: apdu.FileNotFound}
			}
		}, check: func(t *testing.T, c *icao.Chip, _ *between) {
			if _, err := c.Read(t.Context(), lds.DG2); !errors.Is(err, icao.ErrFileNotFound) {
				t.Errorf("error %v", err)
			}
		}},
		{row: "ISO7816_C_02", what: "DG2", opts: large, check: whole},
		{row: "ISO7816_C_03", what: "9000", edit: func(e *idcard.Exchange) {
			if e.Step == idcard.StepRead && !e.Wire && e.Answer.Status == apdu.EndOfFile {
				e.Answer.Status = apdu.OK
			}
		}, check: whole},
	}
	for row, fault := range map[string]idcard.Fault{
		"ISO7816_C_04": idcard.EndOfFile6B00, "ISO7816_C_05": idcard.EndOfFile6282, "ISO7816_C_06": idcard.EndOfFile6Cxx,
	} {
		for name, more := range map[string][]idcard.Fault{"": nil, "short only": {idcard.ShortOnly}} {
			list = append(list, deviation{row: row, what: string(fault) + " " + name, opts: idcard.Options{Faults: append(more, fault)}, check: whole})
		}
	}
	list = append(list, deviation{row: "ISO7816_C_07", what: "short only", opts: idcard.Options{DG2: large.DG2, Faults: []idcard.Fault{idcard.ShortOnly}},
		check: func(t *testing.T, c *icao.Chip, b *between) {
			whole(t, c, b)
			if b.sent(0xB1) == 0 {
				t.Error("no READ BINARY with the odd instruction")
			}
		}})
	conform(t, list)
}

func TestConformanceChipAuthentication(t *testing.T) {
	id := func(n int64) *big.Int { return big.NewInt(n) }
	proved := func(key *big.Int) func(*testing.T, *icao.Chip, *between) {
		return func(t *testing.T, c *icao.Chip, _ *between) {
			if e := c.Document().Chip; e == nil || (key == nil) != (e.KeyID == nil) || key != nil && key.Cmp(e.KeyID) != 0 {
				t.Error("no evidence, or of another key")
			}
		}
	}
	var list []deviation
	for _, n := range domain.IDs() {
		row := "ISO7816_D_02"
		if n <= 2 {
			row = "ISO7816_D_01"
		}
		for _, suite := range []idcard.Suite{idcard.TripleDES, idcard.AES256} {
			key := idcard.ChipKey{Suite: suite, Domain: idcard.Domain(n)}
			how := []idcard.Parameters{idcard.Named, idcard.Explicit, idcard.Standardized}[n%3]
			list = append(list, deviation{row: row, what: fmt.Sprintf("%d, suite %d", n, suite),
				opts: idcard.Options{ChipKeys: []idcard.ChipKey{key}, ChipParameters: how}, check: proved(nil)})
		}
	}
	keys := []idcard.ChipKey{{Domain: idcard.P256, ID: id(1)}, {Domain: idcard.P384, ID: id(2)}, {Suite: idcard.TripleDES, Domain: idcard.P256, ID: id(3)}}
	// DG14 has them in DER's order, the smaller first.
	for i, row := range []string{"ISO7816_D_03", "ISO7816_D_04", "ISO7816_D_05"} {
		list = append(list,
			deviation{row: row, what: "keys", opts: idcard.Options{ChipKeys: keys[:i+1]}, check: proved(id(1))},
			deviation{row: row, what: "others", opts: idcard.Options{ChipKeys: keys[2-i/2:]}, check: proved(keys[2-i/2].ID)})
	}
	unknown := idcard.Options{ChipKeys: keys[:1], Chip: func(p *idcard.Profile) { p.ChipKeys[0].ID = id(9) }}
	list = append(list, deviation{row: "ISO7816_D_06", what: "another number", opts: unknown, want: icao.ErrChipRefused})

	// damage changes the first chip key in DG14 at a place counted from its start, or its end.
	damage := func(key idcard.ChipKey, how idcard.Parameters, change func([]byte)) idcard.Options {
		return idcard.Options{ChipKeys: []idcard.ChipKey{key}, ChipParameters: how, EditFile: func(fid uint16, b []byte) []byte {
			if fid == lds.DG14.FID() {
				infos, err := lds.ParseDG14(b)
				if err != nil {
					t.Fatal(err)
				}
				spki := infos.ChipAuthenticationKeys[0].SPKI
				at := bytes.Index(b, spki)
				change(b[at : at+len(spki)])
			}
			return b
		}}
	}
	last := func(b []byte) { b[len(b)-1] ^= 1 }
	first := func(b []byte) { b[bytes.IndexByte(b, 0x03)+40] ^= 1 }
	parameters := func(b []byte) { // the first number in them gets the tag of another type
		outer, _ := tlv.ParseOne(b, 0x30)
		c := outer.Cursor().Next(0x30).Cursor()
		c.Next(0x06)
		own, _ := c.Next(0x30).Children()
		b[bytes.Index(b, own[0].Raw)] = 0x0A
	}
	dh, ec := idcard.ChipKey{Domain: idcard.DH2048_256}, idcard.ChipKey{Domain: idcard.BrainpoolP256r1}
	list = append(list,
		deviation{row: "ISO7816_D_07", what: "last byte", opts: damage(dh, idcard.Named, last), want: icao.ErrMalformed},
		deviation{row: "ISO7816_D_08", what: "last byte", opts: damage(ec, idcard.Named, last), want: icao.ErrMalformed},
		deviation{row: "ISO7816_D_08", what: "within", opts: damage(ec, idcard.Standardized, first), want: icao.ErrMalformed},
		deviation{row: "ISO7816_D_11", what: "explicit", opts: damage(dh, idcard.Named, parameters), want: icao.ErrMalformed},
		deviation{row: "ISO7816_D_12", what: "explicit", opts: damage(ec, idcard.Explicit, parameters), want: icao.ErrMalformed},
		deviation{row: "ISO7816_D_13", what: "keys", opts: idcard.Options{ChipKeyID: 7, EditFile: func(fid uint16, b []byte) []byte {
			if fid == lds.DG14.FID() {
				b[bytes.Index(b, []byte{0x02, 0x01, 0x07})+2] = 8
			}
			return b
		}}, want: icao.ErrUnsupported},
		deviation{row: "ISO7816_D_14", what: "DH", opts: idcard.Options{ChipKeys: []idcard.ChipKey{dh}}, check: func(t *testing.T, _ *icao.Chip, b *between) {
			if !slices.ContainsFunc(b.commands, func(c []byte) bool { return c[1] == 0x86 && c[0]&0x0C != 0 && c[4] == 0 }) {
				t.Error("no extended GENERAL AUTHENTICATE")
			}
		}})
	for _, suite := range []idcard.Suite{idcard.TripleDES, idcard.AES128} {
		list = append(list, deviation{row: "ISO7816_D_09", what: fmt.Sprintf("suite %d", suite), opts: idcard.Options{ChipSuite: suite},
			edit: func(e *idcard.Exchange) { e.OldKeys = e.Step == idcard.StepChipAgree }, want: icao.ErrChipNotGenuine})
	}
	list = append(list, deviation{row: "ISO7816_D_10", what: "two runs", check: func(t *testing.T, c *icao.Chip, _ *between) {
		before := c.Document().Chip.TerminalKey
		if err := c.AuthenticateChip(t.Context(), dg14(t, c)); err != nil {
			t.Fatal(err)
		}
		if c.Document().Chip.TerminalKey.Equal(before) {
			t.Error("the same key again")
		}
	}})
	for _, sw := range []apdu.Status{apdu.WrongData, apdu.ReferencedDataNotFound, apdu.ConditionsNotSatisfied, apdu.UnknownError} {
		list = append(list, deviation{row: "ISO7816_D_15", what: sw.Error(), opts: idcard.Options{ChipKeyID: 7}, edit: status(idcard.StepChipSet, sw), want: icao.ErrChipRefused})
	}
	slices.SortStableFunc(list, func(a, b deviation) int { return strings.Compare(a.row, b.row) })
	conform(t, list)
}

// Whether a signature verifies is for smartcard/trust; that it is read is shown here.
func TestConformanceActiveAuthentication(t *testing.T) {
	size := func(n int) func(*testing.T, *icao.Chip, *between) {
		return func(t *testing.T, c *icao.Chip, _ *between) {
			if got := len(c.Document().Active.Signature); got != n {
				t.Errorf("%d bytes of signature, want %d", got, n)
			}
		}
	}
	rsa := func(h crypto.Hash, bits int) idcard.Options {
		return idcard.Options{ActiveScheme: idcard.Scheme{Algorithm: idcard.RSA, Hash: h, Bits: bits}}
	}
	plain := idcard.Options{ActiveScheme: idcard.Scheme{Algorithm: idcard.PlainECDSA, Hash: crypto.SHA512, Domain: idcard.BrainpoolP512r1}}
	conform(t, []deviation{
		{row: "ISO7816_F_01", what: "SHA-1", opts: rsa(crypto.SHA1, 1024), check: size(128)},
		{row: "ISO7816_F_02", what: "plain", opts: plain, check: size(128)},
		{row: "ISO7816_F_04", what: "SHA-224", opts: rsa(crypto.SHA224, 1536), check: size(192)},
		{row: "ISO7816_F_05", what: "SHA-256", opts: rsa(crypto.SHA256, 2048), check: size(256)},
		{row: "ISO7816_F_06", what: "SHA-384", opts: rsa(crypto.SHA384, 1024), check: size(128)},
		{row: "ISO7816_F_07", what: "SHA-512", opts: rsa(crypto.SHA512, 3072), check: size(384)},
	})
}
