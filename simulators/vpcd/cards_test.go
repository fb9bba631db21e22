package vpcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/idcard"
	terminal "enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/inspection"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/pcsc"
	"enrollkiosk/smartcard/trust"
)

// The cards of our simulators in the real daemon: a foreign program reads what
// it knows, and our own packages everything.
func TestRealDaemonCarriesIdentityCards(t *testing.T) { privately(t, "cards") }

func realCards(ctx context.Context) error {
	pcsc.ClearEnvironment()
	updates, err := pcsc.Watch(ctx)
	if err != nil {
		return err
	}
	end, err := startDaemon(ctx)
	if err != nil {
		return err
	}
	defer end()
	// in has a card in the reader for as long as do takes.
	in := func(what string, c Card, do func(name string) error) error {
		pull := insert(ctx, c)
		name, err := await(updates, true)
		if err == nil {
			err = do(name)
		}
		if err = errors.Join(err, pull()); err == nil {
			_, err = await(updates, false)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	for _, g := range []beid.Generation{beid.Applet11, beid.Applet17, beid.Applet18} {
		issuer, err := beid.NewIssuer(g)
		if err != nil {
			return err
		}
		card, err := issuer.Personalise(beid.Options{})
		if err != nil {
			return err
		}
		if err := in("Belgian applet "+string(g), card, func(name string) error {
			if g != beid.Applet18 { // whose identity file begins with tag 00, at which eidenv 0.23 gives up
				if err := eidenv(ctx); err != nil {
					return err
				}
			}
			return belgian(ctx, name, g, issuer.Root())
		}); err != nil {
			return err
		}
	}
	return emrtds(ctx, in)
}

// await waits for a reader with a card, or for one without, and names it.
func await(updates <-chan []pcsc.Reader, card bool) (string, error) {
	var last []pcsc.Reader
	for last = range updates {
		if i := slices.IndexFunc(last, func(r pcsc.Reader) bool { return r.Card }); (i >= 0) == card && len(last) > 0 {
			return last[max(i, 0)].Name, nil
		}
	}
	return "", fmt.Errorf("never saw a reader with card %v: %+v", card, last)
}

// eidenv reads the card that lies there with OpenSC's program, which takes the
// first reader that has one.
func eidenv(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "eidenv").Output()
	// eidenv 0.23 ends with status 1 after it has printed a Belgian card.
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return err
	}
	// It loses the street too, to an int of which its library writes eight bytes.
	p := beid.Specimen()
	for _, line := range []string{
		"BELPIC_CARDNUMBER: " + p.CardNumber, "BELPIC_NATIONALNUMBER: " + p.NationalNumber, "BELPIC_NAME: " + p.Surname,
		"BELPIC_FIRSTNAMES: " + p.FirstNames, "BELPIC_BIRTHLOCATION: " + p.BirthPlace, "BELPIC_BIRTHDATE: " + p.Birth,
		"BELPIC_VALIDTILL: " + p.ValidUntil.Format("02.01.2006"), "BELPIC_ZIPCODE: " + p.Zip, "BELPIC_MUNICIPALITY: " + p.Town,
	} {
		if !strings.Contains("\n"+string(out), "\n"+line+"\n") {
			return fmt.Errorf("eidenv does not say %q:\n%s", line, out)
		}
	}
	return nil
}

// belgian reads and verifies the card, and has it prove itself where it can.
func belgian(ctx context.Context, name string, g beid.Generation, root []byte) error {
	card, err := pcsc.Connect(ctx, name)
	if err != nil {
		return err
	}
	defer card.Close()
	if !terminal.Recognise(card.ATR()) {
		return fmt.Errorf("%x is not taken for a Belgian card's answer to reset", card.ATR())
	}
	doc, err := terminal.Read(ctx, card, nil, nil)
	if err != nil {
		return err
	}
	challenge := [32]byte{1, 2, 3}
	proves := g == beid.Applet18
	if doc.Chip, err = terminal.AuthenticateChip(ctx, card, challenge); proves && err != nil || !proves && !errors.Is(err, terminal.ErrNoBasicKey) {
		return fmt.Errorf("chip authentication: %w", err)
	}
	roots, err := terminal.NewRoots(terminal.Root{Certificate: root, Class: terminal.Test})
	if err != nil {
		return err
	}
	holder, report, err := terminal.Verify(doc, roots, time.Now(), terminal.Options{ExpectedChallenge: &challenge, RequireChip: proves, RefuseExpired: true})
	if err != nil {
		return fmt.Errorf("%w: %+v", err, report)
	}
	if got := string(holder.Identity().Surname.Reveal()); got != beid.Specimen().Surname || len(holder.Photo()) == 0 ||
		string(holder.Address().Street.Reveal()) != beid.Specimen().Street {
		return fmt.Errorf("another citizen was read: %q", got)
	}
	return nil
}

// emrtds reads passports with each way of mapping over fields and curves, by
// extended length and by short.
func emrtds(ctx context.Context, in func(string, Card, func(string) error) error) error {
	authority, err := idcard.NewAuthority(idcard.ECDSA)
	if err != nil {
		return err
	}
	anchors, err := trust.NewAnchors([]trust.Anchor{{Certificate: authority.CSCA(), Class: trust.Test}})
	if err != nil {
		return err
	}
	for _, c := range []struct {
		pace   idcard.PACE
		maxLe  int
		faults []idcard.Fault
		short  bool // answers, in the end
	}{
		{idcard.PACE{Mapping: idcard.CAM, Suite: idcard.AES256, Domain: idcard.BrainpoolP384r1}, 0, nil, false},
		{idcard.PACE{Mapping: idcard.CAM, Suite: idcard.AES128, Domain: idcard.BrainpoolP256r1}, 256, nil, true},
		{idcard.PACE{Mapping: idcard.IM, Suite: idcard.AES192, Domain: idcard.P521}, 0, nil, false},
		{idcard.PACE{Mapping: idcard.IM, Suite: idcard.AES128, Domain: idcard.DH2048_224}, 0, nil, false},
		{idcard.PACE{Mapping: idcard.GM, Suite: idcard.TripleDES, Domain: idcard.DH2048_256}, 0, nil, false},
		{idcard.PACE{Mapping: idcard.GM, Suite: idcard.AES128, Domain: idcard.P256}, 0, []idcard.Fault{idcard.ShortOnly}, true},
	} {
		chip, err := authority.Personalise(idcard.SpecimenPerson(), idcard.Options{PACE: []idcard.PACE{c.pace}, Faults: c.faults})
		if err != nil {
			return err
		}
		what := fmt.Sprintf("PACE %+v, Le %d, %v", c.pace, c.maxLe, c.faults)
		if err := in(what, chip, func(name string) error {
			return emrtd(ctx, name, chip, anchors, c.pace.Mapping == idcard.CAM, c.maxLe, c.short)
		}); err != nil {
			return err
		}
	}
	return nil
}

func emrtd(ctx context.Context, name string, chip *idcard.Chip, anchors trust.Anchors, maps bool, maxLe int, short bool) error {
	var seen traffic
	began := time.Now()
	p := inspection.EMRTD(func(ctx context.Context) (inspection.Card, error) {
		card, err := pcsc.Connect(ctx, name)
		if err != nil {
			return nil, err
		}
		card.Trace(seen.add)
		return card, nil
	}, inspection.EMRTDOptions{Password: icao.CAN(secret.FromString(chip.CAN())), Reader: icao.Options{MaxLe: maxLe},
		Anchors: anchors, Now: time.Now, All: true, RequireChip: true})
	defer p.Close()
	if _, err := p.Read(ctx, nil); err != nil {
		return err
	}
	doc := p.Chip().Document()
	if doc.Access != "PACE" || (doc.CAM != nil) != maps || (doc.Chip == nil) != maps {
		return fmt.Errorf("opened by %s, mapping proves the chip: %v, Chip Authentication was run: %v", doc.Access, doc.CAM != nil, doc.Chip != nil)
	}
	// 0102 is EF.DG2 (Doc 9303-10 4.6): the longest file, as it is on the card.
	if !bytes.Equal(doc.Files[lds.DG2], chip.File(0x0102)) {
		return fmt.Errorf("DG2 is not the card's: %d bytes", len(doc.Files[lds.DG2]))
	}
	// One answer carries DG2 whole, or a hundred of at most 256 bytes and status do.
	if most := map[bool]int{false: 20, true: 110}[short]; (seen.longest <= 258) != short || seen.commands > most {
		return fmt.Errorf("%d commands, the longest answer has %d bytes", seen.commands, seen.longest)
	}
	if _, err := p.Bind(ctx, [32]byte{4, 5, 6}); err != nil {
		return fmt.Errorf("active authentication: %w", err)
	}
	fmt.Printf("%d commands, longest answer %d bytes, %v\n", seen.commands, seen.longest, time.Since(began).Round(time.Millisecond))
	return nil
}

// traffic counts what crosses the reader.
type traffic struct{ commands, longest int }

func (t *traffic) add(e pcsc.Exchange) {
	t.commands++
	t.longest = max(t.longest, len(e.Response))
}
