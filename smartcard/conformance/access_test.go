package conformance

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
	"enrollkiosk/smartcard/trust"
)

// The cards that the deviations start from.
var (
	plain = base{"PACE", card{person: idcard.SpecimenPerson()}}
	bac   = base{"BAC", card{person: idcard.SpecimenPerson(), mrz: true, opts: idcard.Options{Faults: []idcard.Fault{idcard.BACOnly}}}}
)

// with is a base of its own: that card with a change that is no deviation.
func with(name string, b base, change func(*card)) base {
	c := b.card
	change(&c)
	return base{name, c}
}

func opened(want string) func(*testing.T, result) {
	return func(t *testing.T, r result) {
		t.Helper()
		if r.access != want {
			t.Errorf("opened with %q, want %q", r.access, want)
		}
	}
}

// applicationTests are unit ISO7816_A.
func applicationTests() []test {
	free := profile(func(p *idcard.Profile) {
		p.Open, p.BAC, p.PACE = true, false, nil
		delete(p.Master, lds.EFCardAccess.FID())
	})
	list := []test{
		{row: "ISO7816_A_01", what: "access number", base: plain, alter: free, check: opened("none")},
		{row: "ISO7816_A_01", what: "zone", base: plain, alter: func(c *card) { free(c); c.mrz = true }, check: opened("none")},
		{row: "ISO7816_A_02", what: "BAC", base: bac, check: opened("BAC")},
	}
	for _, sw := range []apdu.Status{apdu.FileNotFound, apdu.FunctionNotSupported, apdu.UnknownError} {
		list = append(list, test{row: "ISO7816_A_03", what: sw.Error(), base: plain, alter: status(idcard.StepSelectApplication, sw), refused: "reader: not an eMRTD"})
	}
	return list
}

// channelTests are unit ISO7816_B.
func channelTests() []test {
	mutual := func(change func([]byte) []byte) func(*card) {
		return exchange(func(e *idcard.Exchange) {
			if e.Step == idcard.StepMutual && e.Wire {
				e.Answer.Data = change(bytes.Clone(e.Answer.Data))
			}
		})
	}
	replay := func(c *card) { // the first answer again: its MAC is right, its contents are not
		var first []byte
		c.again = true
		mutual(func(b []byte) []byte {
			if first == nil {
				first = b
			}
			return first
		})(c)
	}
	list := []test{
		{row: "ISO7816_B_01", what: "MAC", base: bac, alter: mutual(flip(-1)), refused: "reader: secure messaging"},
		{row: "ISO7816_B_02", what: "of an earlier session", base: bac, alter: replay, refused: "reader: secure messaging"},
		{row: "ISO7816_B_03", what: "6300", base: bac, alter: status(idcard.StepMutual, 0x6300), refused: "reader: wrong password"},
		{row: "ISO7816_B_03", what: "6F00", base: bac, alter: status(idcard.StepMutual, apdu.UnknownError), refused: "reader: refused"},
		{row: "ISO7816_B_10", what: "listed", base: with("CRL", plain, crl(false)), alter: crl(true), refused: "revocation: revoked"},
	}

	// EF.SOD is read under the keys of Chip Authentication.
	reading := func(wire bool, change func(*apdu.Response)) func(*card) {
		return exchange(func(e *idcard.Exchange) {
			if e.Step == idcard.StepRead && e.File == lds.EFSOD.FID() && e.Wire == wire {
				change(&e.Answer)
			}
		})
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
	all3DES := with("BAC and Chip Authentication with 3DES", bac, func(c *card) { c.opts.ChipSuite = idcard.TripleDES })
	add := func(row, what string, alter func(*card)) {
		for _, b := range []base{plain, all3DES} {
			list = append(list, test{row: row, what: what + ", " + b.name, base: b, alter: alter, refused: "reader: secure messaging"})
		}
	}
	for _, sw := range []apdu.Status{apdu.SMObjectsMissing, apdu.SMObjectsIncorrect} {
		add("ISO7816_B_04", sw.Error(), reading(true, func(r *apdu.Response) { *r = apdu.Response{Status: sw} }))
	}
	add("ISO7816_B_05", "no MAC", reading(true, without(0x8E)))
	add("ISO7816_B_06", "taken out", reading(true, without(0x87)))
	add("ISO7816_B_06", "never in", reading(false, func(r *apdu.Response) { r.Data = nil }))
	add("ISO7816_B_07", "no status", reading(true, without(0x99)))
	add("ISO7816_B_08", "wrong MAC", reading(true, func(r *apdu.Response) { r.Data[len(r.Data)-1] ^= 1 }))
	add("ISO7816_B_09", "damaged", reading(true, func(r *apdu.Response) { r.Data[9] ^= 1 }))
	return list
}

// crl loads the state's revocation list.
func crl(revoked bool) func(*card) {
	return func(c *card) {
		c.anchors = func(a *idcard.Authority) (trust.Anchors, error) {
			list, err := a.CRL(revoked)
			if err != nil {
				return trust.Anchors{}, err
			}
			return trust.NewAnchors([]trust.Anchor{{Certificate: a.CSCA(), Class: trust.Test}}, list)
		}
	}
}

// readingTests are unit ISO7816_C.
func readingTests() []test {
	hidden := func(f lds.File) func(*card) {
		return exchange(func(e *idcard.Exchange) {
			if e.File == f.FID() && !e.Wire {
				e.Answer = apdu.Response{Status: apdu.FileNotFound}
			}
		})
	}
	size := func(n int, faults ...idcard.Fault) func(*card) {
		return func(c *card) { c.opts.DG2.Size, c.opts.Faults = n, faults }
	}
	whole := func(n int) func(*testing.T, result) {
		return func(t *testing.T, r result) {
			if got := len(r.document.Files[lds.DG2]); got != n {
				t.Errorf("%d bytes of DG2, want %d", got, n)
			}
		}
	}
	odd := func(t *testing.T, r result) {
		if !slices.ContainsFunc(r.sent, func(c []byte) bool { return c[1] == 0xB1 }) {
			t.Error("no READ BINARY with the odd instruction")
		}
	}
	list := []test{
		{row: "ISO7816_C_01", what: "DG2", base: plain, alter: hidden(lds.DG2), refused: "reader: no such file"},
		{row: "ISO7816_C_01", what: "DG14", base: plain, alter: hidden(lds.DG14), refused: "reader: no such file"},
		{row: "ISO7816_C_01", what: "DG15", base: plain, alter: hidden(lds.DG15), refused: "reader: no such file"},
		{row: "ISO7816_C_01", what: "EF.SOD", base: plain, alter: hidden(lds.EFSOD), refused: "content: missing"},
		{row: "ISO7816_C_02", what: "over 32,767", base: plain, alter: size(33000), check: whole(33000)},
		{row: "ISO7816_C_02", what: "over 65,535", base: plain, alter: size(70000), check: whole(70000)},
		{row: "ISO7816_C_07", what: "extended", base: plain, alter: size(70000), check: odd},
		{row: "ISO7816_C_07", what: "short only", base: plain, alter: size(33000, idcard.ShortOnly), check: odd},
		{row: "ISO7816_C_08", what: "no image", base: plain, alter: facial(func(b []byte) []byte { return resize(b[:14+20+12]) }), refused: "structure: malformed"},
	}
	// What the card says where a read runs past the end of its file, and with how much.
	for _, end := range []struct {
		row   string
		fault idcard.Fault
		met   func(idcard.Exchange) bool
	}{
		{"ISO7816_C_03", "", func(e idcard.Exchange) bool { return e.Answer.Status == apdu.OK && len(e.Answer.Data) < e.Command.Le }},
		{"ISO7816_C_04", idcard.EndOfFile6B00, func(e idcard.Exchange) bool { return e.Answer.Status == apdu.WrongOffset }},
		{"ISO7816_C_05", idcard.EndOfFile6282, func(e idcard.Exchange) bool { return e.Answer.Status == apdu.EndOfFile && len(e.Answer.Data) > 0 }},
		{"ISO7816_C_06", idcard.EndOfFile6Cxx, func(e idcard.Exchange) bool { return e.Answer.Status>>8 == 0x6C }},
	} {
		for _, more := range []idcard.Fault{"", idcard.ShortOnly} {
			times := 0
			list = append(list, test{row: end.row, what: fmt.Sprint(end.fault, " ", more), base: plain, alter: func(c *card) {
				c.opts.Faults = []idcard.Fault{end.fault, more}
				c.edit = func(e *idcard.Exchange) {
					if e.Step != idcard.StepRead || e.Wire {
						return
					}
					if end.fault == "" && e.Answer.Status == apdu.EndOfFile {
						e.Answer.Status = apdu.OK
					}
					if end.met(*e) {
						times++
					}
				}
			}, check: func(t *testing.T, _ result) {
				if times == 0 {
					t.Error("no read ran past the end")
				}
			}})
		}
	}
	return list
}
