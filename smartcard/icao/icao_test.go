package icao_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
)

// specimen is what all cards of these tests have in common.
type specimen struct {
	authority *idcard.Authority
	face      []byte
}

// prepared makes an authority and draws a face, once.
var prepared = sync.OnceValues(func() (specimen, error) {
	authority, err := idcard.NewAuthority(idcard.ECDSA)
	if err != nil {
		return specimen{}, err
	}
	face, err := idcard.Portrait(idcard.SpecimenPerson())
	return specimen{authority, face}, err
})

func newSpecimen(t testing.TB) specimen {
	t.Helper()
	s, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s specimen) card(t testing.TB, opts idcard.Options) *idcard.Chip {
	t.Helper()
	if opts.Face == nil {
		opts.Face = s.face
	}
	chip, err := s.authority.Personalise(idcard.SpecimenPerson(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return chip
}

func can(c *idcard.Chip) icao.Password { return icao.CAN(secret.FromString(c.CAN())) }

func mrz(t testing.TB, c *idcard.Chip) icao.Password {
	t.Helper()
	zone, err := lds.ParseMRZ(c.MRZ())
	if err != nil {
		t.Fatal(err)
	}
	information, err := zone.Information()
	if err != nil {
		t.Fatal(err)
	}
	return icao.MRZ(information)
}

var all = []lds.File{lds.EFCOM, lds.DG1, lds.EFSOD, lds.DG2, lds.DG14, lds.DG15}

// between stands between reader and card: it counts, records and interferes.
type between struct {
	card     apdu.Card
	commands [][]byte
	answers  [][]byte
	// meddle may replace the answer to the nth command, counted from 0. The
	// command has reached the card, except when before says otherwise.
	meddle func(n int, command, answer []byte) ([]byte, error)
	before func(n int, command []byte) error
}

func (b *between) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	n := len(b.commands)
	b.commands = append(b.commands, bytes.Clone(command))
	if b.before != nil {
		if err := b.before(n, command); err != nil {
			b.answers = append(b.answers, nil)
			return nil, err
		}
	}
	answer, err := b.card.Transmit(ctx, command)
	if err == nil && b.meddle != nil {
		answer, err = b.meddle(n, command, bytes.Clone(answer))
	}
	b.answers = append(b.answers, answer)
	return answer, err
}

// sent counts commands with the given instruction.
func (b *between) sent(ins byte) (n int) {
	for _, c := range b.commands {
		if c[1] == ins {
			n++
		}
	}
	return n
}

func open(t testing.TB, card apdu.Card, pw icao.Password, opts icao.Options) *icao.Chip {
	t.Helper()
	c, err := icao.Open(t.Context(), card, pw, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// whole runs everything that a kiosk runs.
func whole(ctx context.Context, c *icao.Chip, files []lds.File) (lds.Document, error) {
	if _, err := c.ReadAll(ctx, files, nil); err != nil {
		return lds.Document{}, err
	}
	infos, err := lds.ParseDG14(c.Document().Files[lds.DG14])
	if err != nil {
		return lds.Document{}, err
	}
	if err := c.AuthenticateChip(ctx, infos); err != nil {
		return lds.Document{}, err
	}
	if _, err := c.AuthenticateActive(ctx, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}); err != nil {
		return lds.Document{}, err
	}
	return c.Document(), nil
}

func TestReadsEverything(t *testing.T) {
	s := newSpecimen(t)
	type card struct {
		name   string
		opts   idcard.Options
		access string
		mrz    bool
	}
	cards := []card{
		{"PACE CAN", idcard.Options{}, "PACE", false},
		{"PACE MRZ", idcard.Options{}, "PACE", true},
		{"BAC", idcard.Options{Faults: []idcard.Fault{idcard.BACOnly}}, "BAC", true},
		{"PACE only", idcard.Options{Faults: []idcard.Fault{idcard.PACEOnly}}, "PACE", true},
		{"short only", idcard.Options{Faults: []idcard.Fault{idcard.ShortOnly}}, "PACE", false},
		{"short only, BAC", idcard.Options{Faults: []idcard.Fault{idcard.ShortOnly, idcard.BACOnly}}, "BAC", true},
		{"RSA", idcard.Options{Active: idcard.RSA, ChipKeyID: 7}, "PACE", false},
		{"RSA, short only", idcard.Options{Active: idcard.RSA, Faults: []idcard.Fault{idcard.ShortOnly}}, "PACE", false},
		{"several PACE protocols", idcard.Options{PACE: []idcard.PACE{
			{Suite: idcard.TripleDES, Domain: idcard.P256}, {Suite: idcard.AES128, Domain: idcard.P384}, {Suite: idcard.AES128, Domain: idcard.P256},
		}}, "PACE", false},
	}
	for _, suite := range []idcard.Suite{idcard.TripleDES, idcard.AES192, idcard.AES256} {
		cards = append(cards, card{
			fmt.Sprintf("suite %d", suite),
			idcard.Options{PACE: []idcard.PACE{{Suite: suite, Domain: idcard.P256}}, ChipSuite: suite}, "PACE", false,
		})
	}
	for _, curve := range []idcard.Domain{idcard.BrainpoolP256r1, idcard.P384, idcard.P521} {
		opts := idcard.Options{PACE: []idcard.PACE{{Suite: idcard.AES128, Domain: curve}}, ChipDomain: curve}
		if curve == idcard.BrainpoolP256r1 {
			opts.ChipDomain = idcard.P256
		}
		cards = append(cards, card{fmt.Sprintf("curve %d", curve), opts, "PACE", false})
	}
	for _, k := range cards {
		limits := []int{0, 256, 1000}
		if strings.HasPrefix(k.name, "curve") { // slow on the card's side, and nothing to do with reading
			limits = limits[:1]
		}
		for _, limit := range limits {
			t.Run(fmt.Sprintf("%s/%d", k.name, limit), func(t *testing.T) {
				if k.name == "RSA" && limit == 256 {
					t.Log("a signature of 256 bytes does not fit into a short answer; see TestActiveTooLongForShort")
					return
				}
				chip := s.card(t, k.opts)
				pw := can
				if k.mrz {
					pw = func(c *idcard.Chip) icao.Password { return mrz(t, c) }
				}
				var last icao.Progress
				c := open(t, chip.Direct(), pw(chip), icao.Options{MaxLe: limit})
				if _, err := c.ReadAll(t.Context(), all, func(p icao.Progress) {
					if p.File == last.File && p.Read <= last.Read || p.Read > p.Total {
						t.Errorf("progress %+v after %+v", p, last)
					}
					last = p
				}); err != nil {
					t.Fatal(err)
				}
				doc, err := whole(t.Context(), c, all)
				if err != nil {
					t.Fatal(err)
				}
				if doc.Access != k.access {
					t.Errorf("access %s", doc.Access)
				}
				if last.Read != last.Total || last.Total != len(doc.Files[lds.DG15]) {
					t.Errorf("last progress %+v", last)
				}
				for _, f := range all {
					if want := chip.File(uint16(f)); len(want) == 0 || !bytes.Equal(doc.Files[f], want) {
						t.Errorf("%v: %d bytes, want %d", f, len(doc.Files[f]), len(want))
					}
				}
				if m, err := lds.ParseDG1(doc.Files[lds.DG1]); err != nil || m.Issuer != "UTO" {
					t.Errorf("DG1: %v", err)
				}
				if faces, err := lds.ParseDG2(doc.Files[lds.DG2]); err != nil || !bytes.Equal(faces[0].Image, s.face) {
					t.Errorf("DG2: %v", err)
				}
				if doc.Chip == nil || doc.Chip.TerminalKey.Len() == 0 || len(doc.Chip.Command) == 0 || len(doc.Chip.Response) < 2 || doc.Active == nil {
					t.Error("evidence is missing")
				}
				if key, err := lds.ParseDG15(doc.Files[lds.DG15]); err != nil {
					t.Error(err)
				} else if key, ok := key.(*ecdsa.PublicKey); ok {
					sig, sum := doc.Active.Signature, sha256.Sum256(doc.Active.Challenge[:])
					r, s := new(big.Int).SetBytes(sig[:len(sig)/2]), new(big.Int).SetBytes(sig[len(sig)/2:])
					if !ecdsa.Verify(key, sum[:], r, s) {
						t.Error("active authentication does not verify")
					}
				} else if want := map[bool]int{false: 256, true: 128}[strings.Contains(k.name, "short")]; len(doc.Active.Signature) != want {
					t.Errorf("signature of %d bytes", len(doc.Active.Signature))
				}
				// The channel under the new keys goes on.
				if _, err := c.Read(t.Context(), lds.DG16); !errors.Is(err, icao.ErrFileNotFound) {
					t.Errorf("DG16: %v", err)
				}
				if _, err := c.Read(t.Context(), lds.DG3); !errors.Is(err, icao.ErrAccessDenied) {
					t.Errorf("DG3: %v", err)
				}
			})
		}
	}
}

// A signature that no short answer holds comes in parts, if the card has parts.
func TestActiveTooLongForShort(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{Active: idcard.RSA, Chip: func(p *idcard.Profile) { p.GetResponse = true }})
	c := open(t, chip.Direct(), can(chip), icao.Options{MaxLe: 256})
	if a, err := c.AuthenticateActive(t.Context(), [8]byte{}); err != nil || len(a.Signature) != 256 {
		t.Fatalf("%d bytes, error %v", len(a.Signature), err)
	}

	chip = s.card(t, idcard.Options{Active: idcard.RSA})
	c = open(t, chip.Direct(), can(chip), icao.Options{MaxLe: 256})
	if _, err := c.AuthenticateActive(t.Context(), [8]byte{}); !errors.Is(err, apdu.WrongLength) {
		t.Fatalf("error %v", err)
	}
}

// Part of a signature is none.
func TestActiveCutShort(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{Chip: func(p *idcard.Profile) {
		p.Edit = func(e *idcard.Exchange) {
			if e.Step == idcard.StepActive && !e.Wire {
				e.Answer.Data = e.Answer.Data[:6]
			}
		}
	}})
	c := open(t, chip.Direct(), can(chip), icao.Options{})
	if _, err := c.AuthenticateActive(t.Context(), [8]byte{}); !errors.Is(err, icao.ErrMalformed) || c.Document().Active != nil {
		t.Fatalf("error %v", err)
	}
}

func TestWrongPasswordIsTriedOnce(t *testing.T) {
	s := newSpecimen(t)
	information, err := lds.MRZInformation("X00000000", "740812", "340415")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		name     string
		faults   []idcard.Fault
		password icao.Password
	}{
		{"CAN", nil, icao.CAN(secret.FromString("654321"))},
		{"MRZ for PACE", nil, icao.MRZ(information)},
		{"MRZ for BAC", []idcard.Fault{idcard.BACOnly}, icao.MRZ(information)},
	} {
		t.Run(k.name, func(t *testing.T) {
			chip := s.card(t, idcard.Options{Faults: k.faults})
			b := &between{card: chip.Direct()}
			_, err := icao.Open(t.Context(), b, k.password, icao.Options{})
			if !errors.Is(err, icao.ErrWrongPassword) {
				t.Fatalf("error %v", err)
			}
			for _, word := range []string{"654321", "X00000000"} {
				if strings.Contains(err.Error(), word) {
					t.Errorf("error names the password: %v", err)
				}
			}
			if general, external := b.sent(0x86), b.sent(0x82); general+external != 4 && general+external != 1 || general > 0 && external > 0 {
				t.Errorf("%d GENERAL AUTHENTICATE, %d EXTERNAL AUTHENTICATE", general, external)
			}
			right := can(chip)
			if k.faults != nil {
				right = mrz(t, chip)
			}
			open(t, chip.Direct(), right, icao.Options{}) // no reset in between
		})
	}
}

func TestCANNeverMeetsBAC(t *testing.T) {
	s := newSpecimen(t)
	b := &between{card: s.card(t, idcard.Options{Faults: []idcard.Fault{idcard.BACOnly}}).Direct()}
	_, err := icao.Open(t.Context(), b, icao.CAN(secret.FromString("123456")), icao.Options{})
	if !errors.Is(err, icao.ErrNeedsMRZ) {
		t.Fatalf("error %v", err)
	}
	if b.sent(0x84)+b.sent(0x82) > 0 {
		t.Error("BAC was tried")
	}
}

func TestPasswordMissing(t *testing.T) {
	b := &between{}
	for _, pw := range []icao.Password{{}, icao.CAN(secret.Text{})} {
		if _, err := icao.Open(t.Context(), b, pw, icao.Options{}); !errors.Is(err, icao.ErrWrongPassword) {
			t.Errorf("error %v", err)
		}
	}
}

func TestFallsBackToBAC(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{})
	for _, pw := range []struct {
		icao.Password
		want error
	}{{mrz(t, chip), nil}, {can(chip), icao.ErrChipRefused}} {
		// The card announces PACE and refuses it.
		b := &between{card: chip.Direct(), meddle: func(_ int, command, answer []byte) ([]byte, error) {
			if command[1] == 0x22 {
				return []byte{0x6A, 0x88}, nil
			}
			return answer, nil
		}}
		c, err := icao.Open(t.Context(), b, pw.Password, icao.Options{})
		if !errors.Is(err, pw.want) {
			t.Fatalf("error %v", err)
		}
		if err == nil && c.Document().Access != "BAC" {
			t.Errorf("access %s", c.Document().Access)
		}
	}
}

func TestNotEMRTD(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{Faults: []idcard.Fault{idcard.NotEMRTD}})
	for _, pw := range []icao.Password{can(chip), mrz(t, chip)} {
		if _, err := icao.Open(t.Context(), chip.Direct(), pw, icao.Options{}); !errors.Is(err, icao.ErrNotEMRTD) {
			t.Errorf("error %v", err)
		}
	}
	// A card that answers the same to everything.
	for _, status := range []apdu.Status{0x6D00, 0x6E00, 0x6A82, 0x6985, 0x6F00, 0x9000} {
		b := &between{card: chip.Direct(), meddle: func(int, []byte, []byte) ([]byte, error) {
			return apdu.Response{Status: status}.Bytes(), nil
		}}
		_, err := icao.Open(t.Context(), b, can(chip), icao.Options{})
		if want := icao.ErrNotEMRTD; !errors.Is(err, want) && !(status == apdu.OK && err != nil) {
			t.Errorf("%04X: %v", uint16(status), err)
		}
	}
}

func TestClone(t *testing.T) {
	s := newSpecimen(t)
	for _, suite := range []idcard.Suite{idcard.TripleDES, idcard.AES128} {
		chip := s.card(t, idcard.Options{ChipSuite: suite, Faults: []idcard.Fault{idcard.Clone}})
		c := open(t, chip.Direct(), can(chip), icao.Options{})
		doc, err := c.ReadAll(t.Context(), all, nil)
		if err != nil {
			t.Fatal(err)
		}
		infos, err := lds.ParseDG14(doc.Files[lds.DG14])
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AuthenticateChip(t.Context(), infos); !errors.Is(err, icao.ErrChipNotGenuine) {
			t.Fatalf("error %v", err)
		}
		if c.Document().Chip == nil {
			t.Error("no evidence of the failure")
		}
	}
}

func TestNoChipKeys(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{Faults: []idcard.Fault{idcard.NoChipKeys}})
	c := open(t, chip.Direct(), can(chip), icao.Options{})
	doc, err := c.ReadAll(t.Context(), all, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := doc.Files[lds.DG14]; ok {
		t.Error("DG14 out of nowhere")
	}
	if err := c.AuthenticateChip(t.Context(), lds.SecurityInfos{}); !errors.Is(err, icao.ErrUnsupported) {
		t.Errorf("error %v", err)
	}
	if _, err := c.AuthenticateActive(t.Context(), [8]byte{}); !errors.Is(err, icao.ErrFileNotFound) {
		t.Errorf("error %v", err)
	}
}

func TestBrokenChannelStaysBroken(t *testing.T) {
	s := newSpecimen(t)
	for _, k := range []struct {
		fault idcard.Fault
		limit int
	}{{idcard.WrongMAC, 0}, {idcard.WrongMAC, 256}, {idcard.DropSM, 256}} {
		t.Run(string(k.fault), func(t *testing.T) {
			chip := s.card(t, idcard.Options{Faults: []idcard.Fault{k.fault}})
			b := &between{card: chip.Direct()}
			c := open(t, b, can(chip), icao.Options{MaxLe: k.limit})
			if _, err := c.ReadAll(t.Context(), all, nil); !errors.Is(err, icao.ErrSecureMessaging) {
				t.Fatalf("error %v", err)
			}
			sent := len(b.commands)
			if _, err := c.Read(t.Context(), lds.DG16); !errors.Is(err, icao.ErrSecureMessaging) {
				t.Errorf("error %v", err)
			}
			if _, err := c.AuthenticateActive(t.Context(), [8]byte{}); !errors.Is(err, icao.ErrSecureMessaging) && !errors.Is(err, icao.ErrFileNotFound) {
				t.Errorf("error %v", err)
			}
			if len(b.commands) != sent {
				t.Error("a dead channel was used")
			}
		})
	}
}

func TestClosed(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{})
	c := open(t, chip.Direct(), can(chip), icao.Options{})
	c.Close()
	c.Close()
	if _, err := c.Read(t.Context(), lds.DG1); !errors.Is(err, icao.ErrClosed) {
		t.Errorf("error %v", err)
	}
	if err := c.AuthenticateChip(t.Context(), lds.SecurityInfos{}); !errors.Is(err, icao.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestNeverPrints(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{})
	pw := can(chip)
	c := open(t, chip.Direct(), pw, icao.Options{})
	if _, err := c.Read(t.Context(), lds.DG1); err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{pw, &pw, c, *c, c.Document(), struct{ P icao.Password }{pw}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, "ERIKSSON") || strings.Contains(out, "4552494b53534f4e") || strings.Contains(out, chip.CAN()) || len(out) > 200 {
				t.Errorf("%T with %s prints %.200s", v, verb, out)
			}
		}
	}
}
