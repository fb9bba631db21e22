package icao

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// quirky is a card with one file, DG2, outside secure messaging. Its fields are
// habits of real cards.
type quirky struct {
	file     []byte
	noShort  apdu.Status // answer to short file identifiers, 0: they work
	maxLe    int         // longest Le it takes, 0: any
	tooLong  apdu.Status // its answer to a longer one; 0x6C00: names the right Le
	past     apdu.Status // answer where Le reaches past the end
	pastBare bool        // without the data that there is
	most     int         // most bytes it gives at once, 0: as asked
	more     int         // bytes it adds to every answer beyond Le
	chain    int         // bytes after which it says 61xx, 0: never
	commands int
	waiting  []byte // to be fetched by GET RESPONSE
}

func (q *quirky) Transmit(_ context.Context, command []byte) ([]byte, error) {
	q.commands++
	c, err := apdu.ParseCommand(command)
	if err != nil {
		return apdu.Response{Status: apdu.WrongLength}.Bytes(), nil
	}
	r := q.execute(c)
	if q.chain > 0 && len(r.Data) > q.chain {
		q.waiting, r.Data = r.Data[q.chain:], r.Data[:q.chain]
		r.Status = 0x6100 | apdu.Status(min(len(q.waiting), 255))
	}
	return r.Bytes(), nil
}

func (q *quirky) execute(c apdu.Command) apdu.Response {
	offset := int(c.P1)<<8 | int(c.P2)
	switch {
	case c.INS == 0xC0:
		d := q.waiting
		q.waiting = nil
		return apdu.Response{Data: d, Status: apdu.OK}
	case c.INS == 0xA4:
		if !bytes.Equal(c.Data, []byte{1, 2}) && c.P1 != 4 {
			return apdu.Response{Status: apdu.FileNotFound}
		}
		return apdu.Response{Status: apdu.OK}
	case c.INS == 0xB1:
		o, err := tlv.ParseOne(c.Data, doOffset)
		if err != nil || offset != 0 {
			return apdu.Response{Status: apdu.WrongData}
		}
		offset = 0
		for _, b := range o.Value {
			offset = offset<<8 | int(b)
		}
		r := q.read(offset, c.Le-4)
		r.Data = tlv.Encode(doData, r.Data)
		return r
	case c.INS != 0xB0:
		return apdu.Response{Status: apdu.InstructionNotSupported}
	case c.P1&0x80 != 0:
		if q.noShort != 0 {
			return apdu.Response{Status: q.noShort}
		}
		if c.P1 != 0x82 {
			return apdu.Response{Status: apdu.FileNotFound}
		}
		offset = int(c.P2)
	}
	return q.read(offset, c.Le)
}

func (q *quirky) read(offset, le int) apdu.Response {
	left := q.file[min(offset, len(q.file)):]
	if q.maxLe > 0 && le > q.maxLe {
		if q.tooLong == 0x6C00 {
			return apdu.Response{Status: 0x6C00 | apdu.Status(min(q.maxLe, len(left)))}
		}
		return apdu.Response{Status: q.tooLong}
	}
	status := apdu.OK
	if le > len(left) && q.past != 0 {
		if status = q.past; status == 0x6C00 {
			return apdu.Response{Status: status | apdu.Status(len(left))}
		}
		if q.pastBare {
			return apdu.Response{Status: status}
		}
	}
	n := min(le+q.more, len(left))
	if q.most > 0 {
		n = min(n, q.most)
	}
	return apdu.Response{Data: left[:n], Status: status}
}

func TestReadsFromQuirkyCards(t *testing.T) {
	content := func(n int) []byte {
		b := bytes.Repeat([]byte{0xA5, 0x5A, 0x11}, n)[:n]
		return tlv.Encode(0x75, b)
	}
	for name, q := range map[string]quirky{
		"plain":                           {},
		"no short file identifiers, 6A86": {noShort: apdu.IncorrectP1P2},
		"no short file identifiers, 6A82": {noShort: apdu.FileNotFound},
		"no short file identifiers, 6D00": {noShort: apdu.InstructionNotSupported},
		"Le over 192 is 6700":             {maxLe: 192, tooLong: apdu.WrongLength},
		"Le over 128 is 6700":             {maxLe: 128, tooLong: apdu.WrongLength},
		"Le over 192 is 6B00":             {maxLe: 192, tooLong: apdu.WrongOffset},
		"Le over 192 is 6282":             {maxLe: 192, tooLong: apdu.EndOfFile},
		"Le over 192 is 6Cxx":             {maxLe: 192, tooLong: 0x6C00},
		"past the end is 6282 with data":  {past: apdu.EndOfFile},
		"past the end is 6282":            {past: apdu.EndOfFile, pastBare: true},
		"past the end is 6B00":            {past: apdu.WrongOffset, pastBare: true},
		"past the end is 6700":            {past: apdu.WrongLength, pastBare: true},
		"past the end is 6Cxx":            {past: 0x6C00},
		"deactivated, with data":          {past: apdu.FileDeactivated},
		"gives 100 at once":               {most: 100},
		"gives more than asked":           {more: 40},
		"chains":                          {chain: 200},
		"everything at once": {
			noShort: apdu.IncorrectP1P2, maxLe: 192, tooLong: apdu.WrongLength, past: apdu.EndOfFile, most: 150, chain: 99,
		},
	} {
		for _, size := range []int{1, 6, 90, 126, 127, 250, 600, 33000} {
			for _, max := range []int{apdu.MaxExtendedLe, apdu.MaxShortLe} {
				if q.past == 0x6C00 && size > 240 {
					continue // one byte cannot name it
				}
				t.Run(fmt.Sprintf("%s/%d/%d", name, size, max), func(t *testing.T) {
					card := q
					want := content(size)
					card.file = append(bytes.Clone(want), make([]byte, 7)...) // cards leave room
					c := plainChip(&card, Password{})
					c.reading.max = max
					got, err := c.readFile(context.Background(), lds.DG2, nil)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, want) {
						t.Fatalf("read %d bytes, want %d", len(got), len(want))
					}
				})
			}
		}
	}
}

func TestBadFiles(t *testing.T) {
	for name, k := range map[string]struct {
		file []byte
		want error
	}{
		"empty":            {nil, ErrMalformed},
		"ends early":       {[]byte{0x75, 0x20, 1, 2, 3}, ErrMalformed},
		"ends in a length": {[]byte{0x75, 0x83, 1}, ErrMalformed},
		"zeros":            {make([]byte, 40), ErrMalformed},
		"indefinite":       {append([]byte{0x75, 0x80}, make([]byte, 20)...), ErrMalformed},
		"too large":        {append([]byte{0x75, 0x83, 0x02, 0x00, 0x00}, make([]byte, 20)...), ErrTooLarge},
		"2 GiB":            {append([]byte{0x75, 0x84, 0x7F, 0xFF, 0xFF, 0xFF}, make([]byte, 20)...), ErrTooLarge},
	} {
		card := &quirky{file: k.file}
		if _, err := plainChip(card, Password{}).readFile(context.Background(), lds.DG2, nil); !errors.Is(err, k.want) {
			t.Errorf("%s: %v", name, err)
		}
		if card.commands > 8 {
			t.Errorf("%s: %d commands", name, card.commands)
		}
	}
	if _, err := plainChip(&quirky{}, Password{}).readFile(context.Background(), lds.DG1, nil); !errors.Is(err, ErrFileNotFound) {
		t.Errorf("missing file: %v", err)
	}
}

// mirror answers PACE with the terminal's own keys.
type mirror struct{}

func (m *mirror) Transmit(_ context.Context, command []byte) ([]byte, error) {
	c, err := apdu.ParseCommand(command)
	if err != nil {
		return nil, err
	}
	if c.INS == 0x22 {
		return []byte{0x90, 0}, nil
	}
	outer, err := tlv.ParseOne(c.Data, doAuthentication)
	if err != nil {
		return nil, err
	}
	in, err := outer.Children()
	if err != nil {
		return nil, err
	}
	reply := tlv.Encode(doNonce, make([]byte, 16))
	if len(in) == 1 {
		reply = tlv.Encode(in[0].Tag+1, in[0].Value)
	}
	return append(tlv.Encode(doAuthentication, reply), 0x90, 0), nil
}

func TestMirroredKeysAreRefused(t *testing.T) {
	c := plainChip(&mirror{}, CAN(secret.FromString("123456")))
	c.random = randoms(bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{9}, 32))
	p := chosen(t, []lds.PACEInfo{info(lds.OIDPACEECDHGM, 2, 12)})
	if _, err := p.run(context.Background(), c); !errors.Is(err, ErrMalformed) {
		t.Fatalf("error %v", err)
	}
}

func info(family []int, suite, parameter int) lds.PACEInfo {
	return lds.PACEInfo{Protocol: append(append([]int{}, family...), suite), Version: 2, ParameterID: parameter}
}

func chosen(t *testing.T, infos []lds.PACEInfo) pace {
	t.Helper()
	list := choosePACE(infos)
	if len(list) == 0 {
		t.Fatal("no protocol chosen")
	}
	return list[0]
}

func TestChoosesPACE(t *testing.T) {
	gm, im, cam := lds.OIDPACEECDHGM, lds.OIDPACEECDHIM, lds.OIDPACEECDHCAM
	dh, dhim, dhcam := lds.OIDPACEDHGM, lds.OIDPACEDHIM, []int{0, 4, 0, 127, 0, 7, 2, 2, 4, 5}
	for name, k := range map[string]struct {
		infos     []lds.PACEInfo
		want      lds.PACEInfo // zero: none
		ambiguous bool
	}{
		"nothing":                     {},
		"what does not exist":         {infos: []lds.PACEInfo{info(dhcam, 2, 2), info(gm, 5, 12), info(gm, 2, 7), info(gm, 2, -1), info(cam, 1, 12), info(im, 2, 10)}},
		"curve and protocol disagree": {infos: []lds.PACEInfo{info(gm, 2, 2), info(dh, 2, 12), info(dhim, 2, 13)}},
		"old version":                 {infos: []lds.PACEInfo{{Protocol: info(gm, 2, 12).Protocol, Version: 1, ParameterID: 12}}},
		"curves before fields":        {[]lds.PACEInfo{info(dh, 2, 2), info(gm, 4, 13)}, info(gm, 4, 13), false},
		"AES before 3DES":             {[]lds.PACEInfo{info(gm, 1, 12), info(dhim, 2, 0)}, info(dhim, 2, 0), false},
		"3DES if need be":             {[]lds.PACEInfo{info(gm, 1, 12)}, info(gm, 1, 12), false},
		"generic before integrated":   {[]lds.PACEInfo{info(im, 2, 12), info(gm, 2, 17)}, info(gm, 2, 17), false},
		"the chip's proof comes free": {[]lds.PACEInfo{info(gm, 2, 12), info(cam, 2, 12)}, info(gm, 2, 12), false},
		"two parameters":              {[]lds.PACEInfo{info(gm, 2, 8), info(gm, 2, 12)}, info(gm, 2, 12), true},
		"parameters of its own":       {[]lds.PACEInfo{info(gm, 2, 99), info(gm, 2, 13)}, info(gm, 2, 13), true},
	} {
		list := choosePACE(k.infos)
		if len(list) == 0 {
			if k.want.Version != 0 {
				t.Errorf("%s: none", name)
			}
			continue
		}
		if p := list[0]; !p.protocol.Equal(k.want.Protocol) || p.parameter != k.want.ParameterID || p.ambiguous != k.ambiguous {
			t.Errorf("%s: %v, parameter %d, ambiguous %v", name, p.protocol, p.parameter, p.ambiguous)
		}
	}
}

// Some cards want the domain parameters named even when there is no choice.
func TestNamesParametersWhenAsked(t *testing.T) {
	card := &scripted{t, []exchange{
		{"without", mustHex("0022c1a40f800a04007f00070202040202830102"), mustHex("6a80")},
		{"with", mustHex("0022c1a412800a04007f0007020204020283010284010c"), mustHex("9000")},
	}}
	c := plainChip(card, CAN(secret.FromString("123456")))
	p := chosen(t, []lds.PACEInfo{info(lds.OIDPACEECDHGM, 2, 12)})
	if err := p.announce(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	card.done()
}

func TestBlockedPassword(t *testing.T) {
	for _, status := range []apdu.Status{0x63C0, apdu.AuthenticationBlocked} {
		card := &scripted{t, []exchange{{"set", mustHex("0022c1a40f800a04007f00070202040202830102"), apdu.Response{Status: status}.Bytes()}}}
		c := plainChip(card, CAN(secret.FromString("123456")))
		p := chosen(t, []lds.PACEInfo{info(lds.OIDPACEECDHGM, 2, 12)})
		if err := p.announce(context.Background(), c); !errors.Is(err, ErrBlocked) {
			t.Errorf("%04X: %v", uint16(status), err)
		}
	}
}

// answers is a card that says what it is told to say, then fails.
type answers struct {
	script   []byte // each answer behind one byte of length, 255 adding the next
	commands int
}

var errScriptEnds = errors.New("no more answers")

func (a *answers) Transmit(context.Context, []byte) ([]byte, error) {
	a.commands++
	n := 0
	for more := true; more; {
		if len(a.script) == 0 {
			return nil, errScriptEnds
		}
		more = a.script[0] == 255
		n += int(a.script[0])
		a.script = a.script[1:]
	}
	n = min(n, len(a.script))
	answer := a.script[:n]
	a.script = a.script[n:]
	return answer, nil
}

// typed says whether a caller can tell what err is.
func typed(err error) bool {
	for _, known := range []error{
		ErrWrongPassword, ErrBlocked, ErrNotEMRTD, ErrNeedsMRZ, ErrUnsupported, ErrAccessDenied, ErrFileNotFound,
		ErrMalformed, ErrTooLarge, ErrSecureMessaging, ErrChipNotGenuine, ErrChipRefused, errScriptEnds, context.DeadlineExceeded,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return err == nil
}

// FuzzFiles reads files, and runs Active Authentication, against a card that
// answers anything, with no secure messaging in the way.
func FuzzFiles(f *testing.F) {
	f.Add(true, []byte{})
	f.Add(false, append([]byte{8}, 0x61, 0x04, 1, 2, 3, 4, 0x90, 0))
	f.Add(true, []byte{6, 0x61, 0x04, 1, 2, 0x62, 0x82, 4, 3, 4, 0x90, 0})
	f.Add(true, []byte{2, 0x67, 0, 2, 0x6A, 0x82, 2, 0x90, 0, 2, 0x6C, 4, 6, 0x61, 2, 9, 9, 0x90, 0})
	f.Add(false, []byte{7, 0x75, 0x82, 0xFF, 0xFF, 1, 0x61, 0x10, 6, 1, 2, 3, 4, 0x90, 0})
	f.Fuzz(func(t *testing.T, extended bool, script []byte) {
		card := &answers{script: script}
		c := plainChip(card, CAN(secret.FromString("123456")))
		c.options.MaxFile, c.options.Timeout = 4096, 5*time.Second
		if extended {
			c.reading.max = apdu.MaxExtendedLe
		}
		for _, file := range []lds.File{lds.EFCOM, lds.DG1, lds.DG2, lds.DG15} {
			b, err := c.Read(context.Background(), file)
			if !typed(err) {
				t.Fatalf("untyped error %v", err)
			}
			if err == nil && len(b) > 4096 {
				t.Fatalf("%d bytes", len(b))
			}
		}
		if _, err := c.AuthenticateActive(context.Background(), [8]byte{}); !typed(err) {
			t.Fatalf("untyped error %v", err)
		}
		if most := len(script) + 16; card.commands > most {
			t.Fatalf("%d commands for %d bytes of answers", card.commands, len(script))
		}
	})
}

// FuzzUnprotect opens protected answers: any bytes, and any objects under a right MAC.
func FuzzUnprotect(f *testing.F) {
	f.Add(false, false, uint16(0x9000), []byte{0x99, 2, 0x90, 0})
	f.Add(true, true, uint16(0x6282), []byte{0x85, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x99, 2, 0x62, 0x82})
	f.Add(true, false, uint16(0x9000), []byte{0x87, 17, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}) // no status
	f.Add(false, false, uint16(0x9000), []byte{0x99, 2, 0x90, 0, 0x99, 2, 0x90, 0})
	f.Add(true, false, uint16(0x9000), []byte{0x87, 17, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0x99, 2, 0x90, 0})
	f.Fuzz(func(t *testing.T, aes, odd bool, status uint16, objects []byte) {
		a := tripleDES
		if aes {
			a = aes128
		}
		if _, err := newSession(a, []byte("secret")).unprotect(apdu.Command{INS: map[bool]byte{false: 0x88, true: 0x8B}[odd]}, apdu.Response{Data: objects, Status: apdu.Status(status)}); err == nil {
			t.Fatal("accepted without the key")
		}
		s := newSession(a, []byte("secret"))
		s.count()
		sealed := append(bytes.Clone(objects), tlv.Encode(doMAC, s.mac(objects))...)
		r, err := newSession(a, []byte("secret")).unprotect(apdu.Command{INS: map[bool]byte{false: 0x88, true: 0x8B}[odd]}, apdu.Response{Data: sealed, Status: apdu.Status(status)})
		if err == nil && (uint16(r.Status) != status || len(r.Data) >= len(objects)) {
			t.Fatalf("%04X with %d bytes of %d", uint16(r.Status), len(r.Data), len(objects))
		}
	})
}
