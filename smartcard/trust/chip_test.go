package trust_test

import (
	"context"
	"crypto"
	"errors"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// Cards of the simulator, which shares no code with this package, read by the
// kiosk's own reader.
func TestSimulatedCards(t *testing.T) {
	for _, c := range []struct {
		name   string
		alg    idcard.Algorithm
		opts   idcard.Options
		check  trust.Check
		reason error
	}{
		{name: "ECDSA", alg: idcard.ECDSA},
		{name: "RSA", alg: idcard.RSA, opts: idcard.Options{Active: idcard.RSA, ChipSuite: idcard.AES256}},
		{name: "PSS", alg: idcard.PSS, opts: idcard.Options{ChipSuite: idcard.AES192}},
		{name: "3DES", alg: idcard.ECDSA, opts: idcard.Options{ChipSuite: idcard.TripleDES}},
		{name: "key id", alg: idcard.ECDSA, opts: idcard.Options{ChipKeyID: 7}},
		{name: "P-384", alg: idcard.ECDSA, opts: idcard.Options{ChipDomain: idcard.P384, ChipSuite: idcard.AES256}},
		{name: "tampered DG1", alg: idcard.ECDSA, opts: faulty(idcard.TamperedDG1), check: trust.CheckHashes, reason: trust.ErrHash},
		{name: "unknown CSCA", alg: idcard.ECDSA, opts: faulty(idcard.UnknownCSCA), check: trust.CheckChain, reason: trust.ErrUnknownAuthority},
		{name: "clone", alg: idcard.ECDSA, opts: faulty(idcard.Clone), check: trust.CheckChipAuthentication, reason: trust.ErrChip},
		{name: "expired", alg: idcard.ECDSA, opts: faulty(idcard.Expired), check: trust.CheckValidity, reason: trust.ErrExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			authority := both(c.alg, crypto.SHA256)
			authority.Keys = keysFor(c.alg)
			state, err := idcard.NewAuthorityWith(authority)
			if err != nil {
				t.Fatal(err)
			}
			c.opts.Face = portrait()
			card, err := state.Personalise(idcard.SpecimenPerson(), c.opts)
			if err != nil {
				t.Fatal(err)
			}
			chip, err := icao.Open(ctx, card.Direct(), icao.CAN(secret.FromString(card.CAN())), icao.Options{})
			if err != nil {
				t.Fatal(err)
			}
			files := []lds.File{lds.EFCOM, lds.DG1, lds.EFSOD, lds.DG2, lds.DG14, lds.DG15}
			if _, err := chip.ReadAll(ctx, files, func(icao.Progress) {}); err != nil {
				t.Fatal(err)
			}
			infos, err := lds.ParseDG14(chip.Document().Files[lds.DG14])
			if err != nil {
				t.Fatal(err)
			}
			genuine := c.check != trust.CheckChipAuthentication
			if err := chip.AuthenticateChip(ctx, infos); (err == nil) != genuine {
				t.Errorf("authenticate chip: %v", err)
			}
			if genuine {
				if _, err := chip.AuthenticateActive(ctx, challenge); err != nil {
					t.Fatal(err)
				}
			}
			anchors, err := trust.NewAnchors([]trust.Anchor{{Certificate: state.CSCA(), Class: trust.Test}}, must(state.CRL(false)))
			if err != nil {
				t.Fatal(err)
			}
			doc := chip.Document()
			if c.reason != nil {
				refused(t, c.name, doc, anchors, time.Now(), strict, c.check, c.reason)
				return
			}
			h, report, err := trust.Verify(doc, anchors, time.Now(), strict)
			if err != nil {
				t.Fatal(err)
			}
			if report.Revocation != trust.Passed || len(report.Warnings) != 0 || string(h.MRZ().Primary.Reveal()) != "ERIKSSON" {
				t.Errorf("report %+v", report)
			}
			revoked := must(trust.NewAnchors([]trust.Anchor{{Certificate: state.CSCA(), Class: trust.Test}}, must(state.CRL(true))))
			if _, _, err := trust.Verify(doc, revoked, time.Now(), strict); !errors.Is(err, trust.ErrRevoked) {
				t.Errorf("revoked signer: %v", err)
			}
		})
	}
}

func faulty(f idcard.Fault) idcard.Options { return idcard.Options{Faults: []idcard.Fault{f}} }
