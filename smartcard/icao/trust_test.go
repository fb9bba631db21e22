package icao_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"enrollkiosk/simulators/idcard"
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
