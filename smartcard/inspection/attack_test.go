package inspection_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/inspection"
	"enrollkiosk/smartcard/trust"
)

var issuer = sync.OnceValues(func() (*idcard.Authority, error) { return idcard.NewAuthority(idcard.ECDSA) })

func authority(t testing.TB) *idcard.Authority {
	t.Helper()
	a, err := issuer()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func anchors(t testing.TB) trust.Anchors {
	t.Helper()
	a, err := trust.NewAnchors([]trust.Anchor{{Certificate: authority(t).CSCA(), Class: trust.Test}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func personalise(t testing.TB, o idcard.Options) *idcard.Chip {
	t.Helper()
	chip, err := authority(t).Personalise(idcard.SpecimenPerson(), o)
	if err != nil {
		t.Fatal(err)
	}
	return chip
}

// onReader is a chip on a reader; wire, if not nil, alters its answers.
type onReader struct {
	apdu.Card
	chip *idcard.Chip
	wire func(n int, answer []byte) []byte
	n    *int // answers since the inspection began
}

func (c onReader) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, err := c.Card.Transmit(ctx, command)
	if err == nil && c.wire != nil {
		answer = c.wire(*c.n, answer)
	}
	*c.n++
	return answer, err
}

func (c onReader) Reset(context.Context) error { c.chip.Reset(); return nil }
func (c onReader) Close() error                { return nil }

func passport(t testing.TB, chip *idcard.Chip, can string, wire func(int, []byte) []byte, o inspection.EMRTDOptions) *inspection.Passport {
	n := 0
	o.Password, o.Now = icao.CAN(secret.FromString(can)), time.Now
	o.Anchors = anchors(t)
	return inspection.EMRTD(func(context.Context) (inspection.Card, error) {
		chip.Reset()
		return onReader{chip.Direct(), chip, wire, &n}, nil
	}, o)
}

// inspect is the whole procedure, with the chip's signature over a challenge.
func inspect(ctx context.Context, p *inspection.Passport) (identity.Holder, error) {
	defer p.Close()
	h, err := p.Read(ctx, nil)
	if err != nil || !p.Signs() {
		return h, err
	}
	var challenge [32]byte
	rand.Read(challenge[:])
	return p.Bind(ctx, challenge)
}

// No byte that anybody signed can be another one: not one mutant of a good
// card's files becomes a holder, whatever the chip's keys prove.
func TestNoMutantOfAFileIsGenuine(t *testing.T) {
	var profile idcard.Profile
	good := personalise(t, idcard.Options{Face: smallFace(t), Chip: func(p *idcard.Profile) { profile = *p }})
	if h, err := inspect(t.Context(), passport(t, good, good.CAN(), nil, inspection.EMRTDOptions{})); err != nil || !h.Valid() {
		t.Fatalf("the card without a fault: %v", err)
	}
	mutants := 0
	for _, id := range []uint16{0x0101, 0x0102, 0x010E, 0x010F, 0x011D} {
		size := len(good.File(id))
		step := max(1, size/mutantsPerFile)
		for at := 0; at < size; at += step {
			b := bytes.Clone(profile.Application[id])
			b[at] ^= 1 << (at % 8)
			mutant := profile
			mutant.Application = maps.Clone(profile.Application)
			mutant.Application[id] = b
			chip, err := idcard.New(mutant)
			if err != nil {
				t.Fatal(err)
			}
			mutants++
			if h, err := inspect(t.Context(), passport(t, chip, chip.CAN(), nil, inspection.EMRTDOptions{})); err == nil || h.Valid() {
				t.Errorf("file %04X with another byte %d passes for genuine", id, at)
			}
		}
	}
	t.Logf("%d mutants", mutants)
}

// Somebody on the line who alters any byte of any answer gains nothing: no
// holder, or the very one that the card stands for.
func TestNoMutantOfAnAnswerIsGenuine(t *testing.T) {
	chip := personalise(t, idcard.Options{Face: smallFace(t)})
	var lengths []int
	p := passport(t, chip, chip.CAN(), func(_ int, answer []byte) []byte { lengths = append(lengths, len(answer)); return answer }, inspection.EMRTDOptions{})
	good, err := inspect(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	want := good.Person(time.Now())
	mutants, harmless := 0, 0
	for n, size := range lengths {
		step := max(1, size/mutantsPerAnswer)
		for at := 0; at < size; at += step {
			mutants++
			p := passport(t, chip, chip.CAN(), func(i int, answer []byte) []byte {
				if i != n || at >= len(answer) {
					return answer
				}
				b := append([]byte(nil), answer...)
				b[at] ^= 0x40
				return b
			}, inspection.EMRTDOptions{})
			h, err := inspect(t.Context(), p)
			if err != nil {
				continue
			}
			harmless++ // e.g. a choice among protocols that EF.CardAccess offers, or a second try
			if got := h.Person(time.Now()); !got.Surname.Equal(want.Surname) || !got.Number.Equal(want.Number) || len(h.Lacks()) > 0 {
				t.Errorf("answer %d, byte %d: another holder", n, at)
			}
		}
	}
	t.Logf("%d mutants, %d of them changed nothing", mutants, harmless)
}

func smallFace(t *testing.T) []byte {
	t.Helper()
	face, err := idcard.Portrait(idcard.SpecimenPerson())
	if err != nil {
		t.Fatal(err)
	}
	return face
}

// Every fault of the simulated card by its name: who is to be refused is, and who
// is merely odd is read.
func TestFaults(t *testing.T) {
	refused := map[idcard.Fault]error{
		idcard.NotEMRTD: icao.ErrNotEMRTD, idcard.TamperedDG1: trust.ErrHash, idcard.Clone: icao.ErrChipNotGenuine,
		idcard.UnknownCSCA: trust.ErrUnknownAuthority, idcard.Expired: trust.ErrExpired, idcard.BACOnly: icao.ErrNeedsMRZ,
		idcard.WrongMAC: icao.ErrSecureMessaging, idcard.SwappedDG: trust.ErrHash,
		idcard.ExpiredSigner: trust.ErrSignerExpired, idcard.SelfMadeSOD: trust.ErrUnknownAuthority,
		idcard.EndlessFile: icao.ErrTooLarge, idcard.OneByte: icao.ErrMalformed, idcard.Hang: context.DeadlineExceeded,
		idcard.MirrorPACE: icao.ErrMalformed, idcard.RefusesLeInMSE: nil, idcard.RevokedSigner: nil,
	}
	for _, fault := range idcard.Faults() {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			chip := personalise(t, idcard.Options{Faults: []idcard.Fault{fault}})
			o := inspection.EMRTDOptions{Reader: icao.Options{Timeout: 3 * time.Second}}
			h, err := inspect(ctx, passport(t, chip, idcard.SpecimenPerson().CAN, nil, o))
			want, bad := refused[fault]
			switch {
			case want == nil && err != nil:
				t.Errorf("refused: %v", err)
			case want == nil && !h.Valid():
				t.Error("neither holder nor error")
			case bad && want != nil && !errors.Is(err, want):
				t.Errorf("%v, want %v", err, want)
			case err != nil && h.Valid():
				t.Error("a holder beside an error")
			}
		})
	}
	// A revocation list makes the difference.
	crl, err := authority(t).CRL(true)
	if err != nil {
		t.Fatal(err)
	}
	knowing, err := trust.NewAnchors([]trust.Anchor{{Certificate: authority(t).CSCA(), Class: trust.Test}}, crl)
	if err != nil {
		t.Fatal(err)
	}
	chip := personalise(t, idcard.Options{Faults: []idcard.Fault{idcard.RevokedSigner}})
	p := inspection.EMRTD(func(context.Context) (inspection.Card, error) {
		chip.Reset()
		return onReader{chip.Direct(), chip, nil, new(int)}, nil
	}, inspection.EMRTDOptions{Password: icao.CAN(secret.FromString(chip.CAN())), Now: time.Now, Anchors: knowing})
	if _, err := inspect(t.Context(), p); !errors.Is(err, trust.ErrRevoked) {
		t.Errorf("revoked signer: %v", err)
	}
}

// A clone that hides the data groups with the keys it does not have is refused,
// also where the policy takes documents that never had any.
func TestHiddenKeys(t *testing.T) {
	for _, hidden := range [][]uint16{{0x010E}, {0x010F}, {0x010E, 0x010F}, {0x0102}} {
		chip := personalise(t, idcard.Options{Chip: func(p *idcard.Profile) {
			for _, id := range hidden {
				delete(p.Application, id)
			}
		}})
		if _, err := inspect(t.Context(), passport(t, chip, chip.CAN(), nil, inspection.EMRTDOptions{})); !errors.Is(err, icao.ErrFileNotFound) {
			t.Errorf("%X hidden: %v", hidden, err)
		}
	}
}

// A refused document is not read to its end.
func TestRefusedEarly(t *testing.T) {
	count := func(o idcard.Options) (n int) {
		chip := personalise(t, o)
		p := passport(t, chip, chip.CAN(), func(i int, answer []byte) []byte {
			time.Sleep(time.Millisecond) // no reader is faster
			n = i + 1
			return answer
		},
			inspection.EMRTDOptions{Reader: icao.Options{MaxLe: 256}})
		inspect(t.Context(), p)
		return n
	}
	good, bad := count(idcard.Options{}), count(idcard.Options{Faults: []idcard.Fault{idcard.UnknownCSCA}})
	if bad >= good-20 {
		t.Errorf("%d commands for a refused document, %d for a good one", bad, good)
	}
}

// What one card of a kind has taught is not asked of the next.
func TestMemory(t *testing.T) {
	memory := &inspection.Memory{}
	var commands []int
	for range 2 {
		chip := personalise(t, idcard.Options{Faults: []idcard.Fault{idcard.ExtendedLost}})
		n := 0
		p := inspection.EMRTD(func(context.Context) (inspection.Card, error) {
			chip.Reset()
			return withATR{onReader{chip.Direct(), chip, nil, &n}}, nil
		}, inspection.EMRTDOptions{Password: icao.CAN(secret.FromString(chip.CAN())), Now: time.Now, Anchors: anchors(t), Memory: memory})
		if _, err := inspect(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, n)
	}
	if commands[1] >= commands[0] {
		t.Errorf("commands for a first and a second card of a kind: %d", commands)
	}
}

type withATR struct{ onReader }

func (c withATR) ATR() []byte { return c.chip.ATR() }

// A card that is exchanged between reading and signing is noticed, and one that
// was only taken away goes on.
func TestCardExchanged(t *testing.T) {
	first, second := personalise(t, idcard.Options{}), personalise(t, idcard.Options{})
	for _, again := range []*idcard.Chip{first, second} {
		lying, gone := first, false
		p := inspection.EMRTD(func(context.Context) (inspection.Card, error) {
			lying.Reset()
			return pulled{onReader{lying.Direct(), lying, nil, new(int)}, &gone}, nil
		}, inspection.EMRTDOptions{Password: icao.CAN(secret.FromString(first.CAN())), Now: time.Now, Anchors: anchors(t)})
		if _, err := p.Read(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		gone, lying = true, again
		_, err := p.Bind(t.Context(), [32]byte{1})
		if gone = false; (again == first) != (err == nil) || again == second && !errors.Is(err, inspection.ErrChanged) {
			t.Errorf("the same card again: %v, %v", again == first, err)
		}
		p.Close()
	}
}

// pulled is a card that answers nothing once it is gone, until it is opened again.
type pulled struct {
	onReader
	gone *bool
}

func (c pulled) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if *c.gone {
		*c.gone = false
		return nil, fmt.Errorf("card taken away")
	}
	return c.onReader.Transmit(ctx, command)
}
