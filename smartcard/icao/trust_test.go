package icao_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// What this package reads and records is what package trust needs to verify a
// document and its chip.
func TestDocumentCanBeVerified(t *testing.T) {
	s := newSpecimen(t)
	anchors, err := trust.NewAnchors([]trust.Anchor{{Certificate: s.authority.CSCA(), Class: trust.Test}})
	if err != nil {
		t.Fatal(err)
	}
	verify := func(t *testing.T, doc lds.Document) (trust.Report, error) {
		challenge := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
		_, report, err := trust.Verify(doc, anchors, time.Now(), trust.Options{
			ExpectedChallenge: &challenge, RequireChip: true, RequireActive: true,
		})
		return report, err
	}
	for _, suite := range []idcard.Suite{idcard.TripleDES, idcard.AES128, idcard.AES192, idcard.AES256} {
		for _, curve := range []idcard.Domain{idcard.P256, idcard.P384, idcard.P521} {
			for _, active := range []idcard.Algorithm{idcard.ECDSA, idcard.RSA} {
				if active == idcard.RSA && (suite != idcard.AES128 || curve != idcard.P256) {
					continue // a long key takes long to make
				}
				t.Run(fmt.Sprintf("suite %d, curve %d, %s", suite, curve, active), func(t *testing.T) {
					chip := s.card(t, idcard.Options{ChipSuite: suite, ChipDomain: curve, ChipKeyID: int(suite) - 1, Active: active})
					doc, err := whole(t.Context(), open(t, chip.Direct(), can(chip), icao.Options{}), all)
					if err != nil {
						t.Fatal(err)
					}
					report, err := verify(t, doc)
					if err != nil {
						t.Fatal(err)
					}
					if report.ChipAuthentication != trust.Passed || report.ActiveAuthentication != trust.Passed || report.Access != "PACE" {
						t.Errorf("report %+v", report)
					}
				})
			}
		}
	}

	// Chip Authentication over every domain parameters, and PACE's own proof over
	// those that have one, with Chip Authentication or without.
	for _, id := range domain.IDs() {
		d := idcard.Domain(id)
		t.Run(fmt.Sprintf("domain %d", id), func(t *testing.T) {
			opts := idcard.Options{ChipKeys: []idcard.ChipKey{{Domain: d}}}
			if id > 2 {
				opts.PACE = []idcard.PACE{{Mapping: idcard.CAM, Suite: idcard.AES128, Domain: d}}
			}
			chip := s.card(t, opts)
			c := open(t, chip.Direct(), can(chip), icao.Options{})
			if _, err := c.ReadAll(t.Context(), all, nil); err != nil {
				t.Fatal(err)
			}
			mapped := func(report trust.Report) bool { return (report.ChipMapping == trust.Passed) == (id > 2) }
			_, report, err := trust.Verify(c.Document(), anchors, time.Now(), trust.Options{})
			if err != nil || !mapped(report) || report.ChipAuthentication == trust.Passed {
				t.Fatalf("after PACE: %v, report %+v", err, report)
			}
			if err := inspect(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			_, report, err = trust.Verify(c.Document(), anchors, time.Now(), trust.Options{RequireChip: true})
			if err != nil || !mapped(report) || report.ChipAuthentication != trust.Passed {
				t.Errorf("after Chip Authentication: %v, report %+v", err, report)
			}
		})
	}
	// Lost and found again.
	t.Run("channel lost after Chip Authentication", func(t *testing.T) {
		chip := s.card(t, idcard.Options{})
		b := &between{card: chip.Direct(), meddle: func(_ int, _, answer []byte) ([]byte, error) {
			if len(answer) > 600 {
				return nil, errPulled
			}
			return answer, nil
		}}
		c := open(t, b, can(chip), icao.Options{})
		if err := inspect(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		_, report, err := trust.Verify(c.Document(), anchors, time.Now(), trust.Options{RequireChip: true})
		if err != nil || report.ChipAuthentication != trust.Passed {
			t.Errorf("error %v, report %+v", err, report)
		}
	})

	t.Run("clone", func(t *testing.T) {
		chip := s.card(t, idcard.Options{Faults: []idcard.Fault{idcard.Clone}})
		c := open(t, chip.Direct(), can(chip), icao.Options{})
		if _, err := whole(t.Context(), c, all); !errors.Is(err, icao.ErrChipNotGenuine) {
			t.Fatalf("error %v", err)
		}
		if report, err := verify(t, c.Document()); !errors.Is(err, trust.ErrChip) {
			t.Errorf("error %v, report %+v", err, report)
		}
	})
	t.Run("tampered", func(t *testing.T) {
		chip := s.card(t, idcard.Options{Faults: []idcard.Fault{idcard.TamperedDG1}})
		doc, err := whole(t.Context(), open(t, chip.Direct(), can(chip), icao.Options{}), all)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify(t, doc); !errors.Is(err, trust.ErrHash) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("unknown authority", func(t *testing.T) {
		chip := s.card(t, idcard.Options{Faults: []idcard.Fault{idcard.UnknownCSCA}})
		doc, err := whole(t.Context(), open(t, chip.Direct(), can(chip), icao.Options{}), all)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify(t, doc); !errors.Is(err, trust.ErrUnknownAuthority) {
			t.Errorf("error %v", err)
		}
	})
}
