package vault_test

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/sam"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/lds"
)

// kinds, exceptions are what the fuzzer chooses from.
var (
	kinds      = []record.Document{record.EMRTD, record.BelgianEID, record.PRCResident}
	exceptions = [][]record.Exception{nil, noChip, noIssuer, neither}
)

// pack writes files one after another: identifier, length in three bytes, bytes.
func pack(files map[uint16]secret.Text) (b []byte) {
	for _, f := range slices.Sorted(maps.Keys(files)) {
		content := files[f].Reveal()
		b = binary.BigEndian.AppendUint16(b, f)
		b = append(b, byte(len(content)>>16), byte(len(content)>>8), byte(len(content)))
		b = append(b, content...)
	}
	return b
}

// unpack reads what pack wrote, or as much as there is.
func unpack(b []byte) map[uint16]secret.Text {
	files := map[uint16]secret.Text{}
	for len(b) >= 5 {
		f, n := binary.BigEndian.Uint16(b), min(int(b[2])<<16|int(b[3])<<8|int(b[4]), len(b)-5)
		files[f] = secret.New(slices.Clone(b[5 : 5+n]))
		b = b[5+n:]
	}
	return files
}

// FuzzDocument has the vault verify identities that nobody would seal. Nothing
// panics, every refusal is one, and of the kinds that an issuer signs nobody is
// known but those whom he signed.
func FuzzDocument(f *testing.F) {
	w := accepting(f, acceptsBelgian+acceptsResident+acceptsChipless)
	v, err := vault.Open(f.Context(), w.VaultOptions())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { v.Close() })
	holder := registrytest.NewDevice(f)
	payload := w.Kiosk(f, "KIOSK-0001").Make(f, registrytest.Spec{Holder: &holder}).Record().Payload()

	known := map[[32]byte]bool{}
	full := card(f, idcard.SpecimenPerson(), idcard.Options{})
	mapping := personalise(f, state(f), another("L898902C4", "EVA"), idcard.Options{PACE: []idcard.PACE{{Mapping: idcard.CAM, Suite: idcard.AES128, Domain: idcard.P256}}})
	for _, seed := range []struct {
		document sealing
		lacks    int
	}{
		{passport(f, full), 0},
		{passport(f, mapping), 0},
		{passport(f, keyless(f, nil)), 1},
		{passport(f, keyless(f, full.File(uint16(lds.DG14)))).claiming(ecdhAES128), 0},
		{belgian(f, beid.Applet17, beid.Specimen()), 1},
		{belgian(f, beid.Applet18, beid.OtherSpecimen()), 0},
		{resident(f, sam.Resident(sam.Specimen())), 3},
		{resident(f, sam.Permit(sam.Specimen())), 3},
		{resident(f, sam.Foreigner2017(sam.Specimen())), 3},
		{resident(f, sam.Foreigner2023(sam.Specimen())), 3},
	} {
		id := seed.document(payload.Context, holder.Public())
		p := payload
		p.Exceptions = exceptions[seed.lacks]
		document, _, err := vault.Known(v, p, id, time.Now())
		if err != nil {
			f.Fatalf("%s that lacks %v: %v", id.Document, p.Exceptions, err)
		}
		if id.Document != record.PRCResident {
			known[document] = true
		}
		claim, challenge, signature := "", []byte(nil), []byte(nil)
		if id.Chip != nil {
			claim = id.Chip.Protocol
		}
		if id.Active != nil {
			challenge, signature = id.Active.Challenge, id.Active.Signature
		}
		f.Add(uint8(slices.Index(kinds, id.Document)), uint8(seed.lacks), pack(id.Files), claim, challenge, signature)
	}
	at := time.Now()
	f.Fuzz(func(t *testing.T, kind, lacks uint8, files []byte, claim string, challenge, signature []byte) {
		id := record.Identity{Document: kinds[int(kind)%len(kinds)], Access: "PACE", Files: unpack(files)}
		if claim != "" {
			id.Chip = &record.ChipClaim{Protocol: claim, Passed: true}
		}
		if len(challenge) > 0 {
			id.Active = &record.ActiveEvidence{Challenge: challenge, Signature: signature}
		}
		p := payload
		p.Exceptions = exceptions[int(lacks)%len(exceptions)]
		document, _, err := vault.Known(v, p, id, at)
		var refusal *chain.Refusal
		switch {
		case err != nil && !errors.As(err, &refusal):
			t.Errorf("no refusal: %v", err)
		case err != nil:
		case id.Document == record.PRCResident:
			if n := id.Files[identity.ResidentText].Len(); n != 256 || !slices.Equal(p.Exceptions, neither) {
				t.Errorf("a resident of %d bytes who lacks %v", n, p.Exceptions)
			}
		case !known[document]:
			t.Errorf("%s of nobody", id.Document)
		}
	})
}
