package stage_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/simulators/sam"
)

const (
	acceptsBelgian = `
[[documents]]
kind = "belgian-eid"
may_lack = ["no-chip-proof"]
[[documents.roots]]
file = "belgium.der"
class = "test"
`
	acceptsResident = `
[[documents]]
kind = "prc-resident"
may_lack = ["no-chip-proof", "no-issuer-signature"]
class = "test"
`
	acceptsChipless = `
[[documents]]
kind = "emrtd"
may_lack = ["no-chip-proof"]
`
)

// signed is the enrollment in the kiosk's queue, ok is false while there is none.
func signed(t *testing.T, s *stage.Stage) (p record.Payload, ok bool) {
	t.Helper()
	for _, e := range entries(t, s) {
		b, err := s.Kiosk.Queue().Data(t.Context(), e.ID)
		if err != nil {
			continue // delivered already
		}
		sub, err := record.ParseSubmission(b)
		if err != nil {
			t.Fatal(err)
		}
		if p := sub.Record().Payload(); p.Context.Purpose == record.Enroll {
			return p, true
		}
	}
	return p, false
}

// enrolled plays an enrollment that must end with the authority's word, and
// returns what was signed.
func enrolled(t *testing.T, s *stage.Stage, p *people, told ...told) (payload record.Payload) {
	t.Helper()
	looked := false
	p.OnState = func(kiosk.State) {
		if !looked {
			payload, looked = signed(t, s)
		}
	}
	r, err := p.enroll()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.told, told) {
		t.Errorf("people were told %v", p.told)
	}
	if !looked {
		t.Fatal("the record was gone before anybody could look at it")
	}
	final(t, s, r)
	return payload
}

// kindStage is a running stage with an addition to the policy, and a line slow
// enough to look at a record before it is delivered. It fails the test at its
// end if the authority has not confirmed the one record.
func kindStage(t *testing.T, dir, policy, port string) *stage.Stage {
	t.Helper()
	var active atomic.Bool
	n := newLine(t)
	s := newStageIn(t, dir, func(o *stage.Options) {
		o.Policy, o.Resident, o.Limits.Delivery, o.Registry = policy, port, 30*time.Second, n.listener.Addr().String()
		o.Observe = func(e kiosk.Event) {
			if e.Step == kiosk.StepActivate && e.Failed == "" {
				active.Store(true)
			}
		}
	})
	n.become(through(s.RegistryAddress(), 200*time.Millisecond))
	start(t, s)
	t.Cleanup(func() {
		if !active.Load() {
			t.Error("the authority has not confirmed the record")
		}
	})
	return s
}

func roles(p record.Payload) (list []record.Role) {
	for _, s := range p.Signers {
		list = append(list, s.Role)
	}
	return list
}

var fourSigners = []record.Role{record.Holder, record.Officer, record.Supervisor, record.Kiosk}

func TestBelgianCard(t *testing.T) {
	for _, c := range []struct {
		generation beid.Generation
		lacks      []record.Exception
		signers    []record.Role
	}{
		{beid.Applet17, []record.Exception{record.NoChipProof}, fourSigners},
		{beid.Applet18, nil, []record.Role{record.Holder, record.Officer, record.Kiosk}},
	} {
		t.Run(string(c.generation), func(t *testing.T) {
			issuer, err := beid.NewIssuer(c.generation)
			if err != nil {
				t.Fatal(err)
			}
			dir := tempDir(t)
			if err := os.WriteFile(filepath.Join(dir, "belgium.der"), issuer.Root(), 0o600); err != nil {
				t.Fatal(err)
			}
			s := kindStage(t, dir, acceptsBelgian, "")
			p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
			card, err := issuer.Personalise(beid.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s.Hold(kiosk.DeviceDocument, card)
			compared := false
			p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
				if st.Screen == kiosk.ScreenCompare {
					compared = true
					if string(st.Holder.Surname.Reveal()) != beid.Specimen().Surname || st.Holder.FaceMIME != "image/png" || len(st.Lacks) != len(c.lacks) {
						t.Errorf("compare shows face %q, lacks %v", st.Holder.FaceMIME, st.Lacks)
					}
				}
				if st.Screen == kiosk.ScreenAccessNumber {
					t.Error("asked for an access number that this card does not have")
				}
				return false, nil
			}
			payload := enrolled(t, s, p)
			if !compared || !slices.Equal(payload.Exceptions, c.lacks) || !slices.Equal(roles(payload), c.signers) {
				t.Errorf("record says %v, signed by %v", payload.Exceptions, roles(payload))
			}
		})
	}
}

// Nobody signed what a resident card says: a second officer agrees, and the
// record says it.
func TestResidentCard(t *testing.T) {
	module, err := sam.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()
	s := kindStage(t, tempDir(t), acceptsResident, module.Path())
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		switch st.Screen {
		case kiosk.ScreenPlaceCard:
			module.Place(sam.Resident(sam.Specimen()))
			return true, nil
		case kiosk.ScreenSecondOfficer:
			if !slices.Equal(st.Lacks, []kiosk.Lack{kiosk.LackChip, kiosk.LackIssuer}) || st.Holder == nil {
				t.Errorf("the second officer sees %v", st.Lacks)
			}
		}
		return false, nil
	}
	payload := enrolled(t, s, p)
	if !slices.Equal(payload.Exceptions, []record.Exception{record.NoChipProof, record.NoIssuerSignature}) || !slices.Equal(roles(payload), fourSigners) {
		t.Errorf("record says %v, signed by %v", payload.Exceptions, roles(payload))
	}
}

// A policy that does not accept a kind, or what it lacks, ends before anybody is
// asked for consent.
func TestKindNotAccepted(t *testing.T) {
	issuer, err := beid.NewIssuer(beid.Applet17)
	if err != nil {
		t.Fatal(err)
	}
	card, err := issuer.Personalise(beid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, nil)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	s.Hold(kiosk.DeviceDocument, card)
	p.leave(trouble(kiosk.CodeKindRefused))
	works(t, s)
}

// A chip that cannot prove itself is enrolled where the policy says so, with a
// second officer who is not the first.
func TestSecondOfficer(t *testing.T) {
	s := kindStage(t, tempDir(t), acceptsChipless, "")
	p := arrive(t, s, idcard.Options{Faults: []idcard.Fault{idcard.NoChipKeys}}, pivtoken.Options{})
	tried := false
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen == kiosk.ScreenReview {
			for _, item := range []string{"dg14", "dg15", "chip-proof"} {
				if slices.Contains(st.Review.Sealed, item) {
					t.Errorf("the citizen reads of %s, which this card does not have", item)
				}
			}
			if !slices.Contains(st.Review.Sealed, "dg1") || !slices.Contains(st.Review.Open, "exceptions") {
				t.Errorf("the citizen reads of %v and %v", st.Review.Sealed, st.Review.Open)
			}
		}
		if st.Screen != kiosk.ScreenSecondOfficer || tried {
			return false, nil
		}
		tried = true // the officer who signed on agrees with himself
		s.Officer(0)
		return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionApprove, Secret: secret.FromString(p.OfficerPIN)})
	}
	p.mend = func(int, told) kiosk.Action { return kiosk.ActionRetry }
	payload := enrolled(t, s, p, told{kiosk.ScreenSecondOfficer, kiosk.CodeSamePerson, 0})
	if !slices.Equal(payload.Exceptions, []record.Exception{record.NoChipProof}) || !slices.Equal(roles(payload), fourSigners) {
		t.Errorf("record says %v, signed by %v", payload.Exceptions, roles(payload))
	}
}

// What the policy wants sealed beside the evidence is read, and the citizen is
// told of it.
func TestFurtherFiles(t *testing.T) {
	s := newStage(t, nil)
	if err := s.SignPolicy(t.Context(), func(text string) string {
		return "files = [258, 267]\n" + strings.Replace(text, "version = 1\n", "version = 2\n", 1)
	}); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	further, err := idcard.OptionalGroups(idcard.SpecimenPerson())
	if err != nil {
		t.Fatal(err)
	}
	p := arrive(t, s, idcard.Options{Files: further}, pivtoken.Options{})
	var told []string
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		if st.Screen == kiosk.ScreenReview {
			told = st.Review.Sealed
		}
		return false, nil
	}
	final(t, s, p.meet())
	for _, item := range []string{"dg1", "dg2", "further-files"} {
		if !slices.Contains(told, item) {
			t.Errorf("the citizen reads of %v, not of %s", told, item)
		}
	}
}

// A scanner reads the page: the chip opens, and must say the same.
func TestScannedPage(t *testing.T) {
	s := newStage(t, nil)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	zone := s.Chip.MRZ()
	p.Scan = zone[:30] + "\r" + zone[30:60] + "\r" + zone[60:] + "\r"
	r := p.meet()
	final(t, s, r)

	p = arrive(t, s, idcard.Options{}, pivtoken.Options{})
	p.Scan = strings.Replace(s.Chip.MRZ(), "ERIKSSON", "ERIKSEN<", 1) // opens the chip all the same
	p.leave(trouble(kiosk.CodePageDiffers))
	works(t, s)
}
