package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/simulators/sam"
	"enrollkiosk/simulators/specimen"
)

// choice is what the command line says about the cards.
type choice struct {
	authority            string
	idcard, idcardFaults string
	token, tokenFaults   string
	officer, officerPIN  string
	belgian              string
	applet               beid.Generation
	belgianFaults        []beid.Fault
	resident             string
	residentFault        sam.Fault
}

const none = "none"

// single is the one card for a virtual reader.
func (c choice) single(a *specimen.Authority, given map[string]bool) (pcscd.Card, error) {
	wrong := fmt.Errorf("%w: --vpcd takes one of --idcard, --belgian, --token and --officer", errUsage)
	var chosen func(*specimen.Authority) (pcscd.Card, error)
	for name, make := range map[string]func(*specimen.Authority) (pcscd.Card, error){
		"idcard": c.idCardOrNone, "belgian": c.belgianOrNone, "token": c.tokenOrNone, "officer": c.officerOrNone,
	} {
		if given[name] {
			if chosen != nil {
				return nil, wrong
			}
			chosen = make
		}
	}
	if chosen == nil {
		return nil, wrong
	}
	card, err := chosen(a)
	if card == nil && err == nil {
		err = wrong
	}
	return card, err
}

func (c choice) idCardOrNone(a *specimen.Authority) (pcscd.Card, error) {
	if c.idcard == none {
		return nil, nil
	}
	return c.idCard(a)
}

func (c choice) idCard(a *specimen.Authority) (*idcard.Chip, error) {
	person := idcard.SpecimenPerson()
	switch c.idcard {
	case "specimen":
	case none:
		return nil, fmt.Errorf("%w: there is no ID card to show", errUsage)
	default:
		f, err := os.Open(c.idcard)
		if err != nil {
			return nil, fmt.Errorf("read person: %w", err)
		}
		defer f.Close()
		if person, err = idcard.ParsePerson(f); err != nil {
			return nil, fmt.Errorf("read person from %s: %w", c.idcard, err)
		}
	}
	var options idcard.Options
	for name := range strings.SplitSeq(c.idcardFaults, ",") {
		if name == "" {
			continue
		}
		fault, err := idcard.ParseFault(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		options.Faults = append(options.Faults, fault)
	}
	chip, err := a.State.Personalise(person, options)
	if err != nil {
		return nil, fmt.Errorf("make ID card: %w", err)
	}
	return chip, nil
}

func (c choice) tokenOrNone(a *specimen.Authority) (pcscd.Card, error) {
	var faults pivtoken.Fault
	if c.tokenFaults != "" {
		var err error
		if faults, err = pivtoken.ParseFault(c.tokenFaults); err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	switch c.token {
	case none:
		return nil, nil
	case "factory":
	case "provisioned":
		faults |= pivtoken.Provisioned
	default:
		return nil, fmt.Errorf("%w: --token is factory, provisioned or none", errUsage)
	}
	return pivtoken.New(pivtoken.Options{Root: a.Tokens, Faults: faults}), nil
}

func (c choice) officerOrNone(a *specimen.Authority) (pcscd.Card, error) {
	var o specimen.Officer
	var err error
	switch c.officer {
	case none:
		return nil, nil
	case "":
		o = a.Officers[0]
	default:
		if o, err = specimen.ReadOfficer(c.officer); err != nil {
			return nil, fmt.Errorf("read officer: %w", err)
		}
	}
	token, err := o.Card(a.Tokens, c.officerPIN)
	if err != nil {
		return nil, fmt.Errorf("%w: --officer-pin: %w", errUsage, err)
	}
	return token, nil
}

func (c *choice) setApplet(name string) error {
	c.applet = beid.Generation(name)
	if !slices.Contains(applets, c.applet) {
		return fmt.Errorf("use %s", listed(applets, " or "))
	}
	return nil
}

var applets = []beid.Generation{beid.Applet11, beid.Applet17, beid.Applet18}

func (c *choice) addBelgianFault(name string) error {
	fault, err := beid.ParseFault(name)
	c.belgianFaults = append(c.belgianFaults, fault)
	return err
}

func (c *choice) setResidentFault(name string) (err error) {
	c.residentFault, err = sam.ParseFault(name)
	return err
}

func (c choice) belgianOrNone(a *specimen.Authority) (pcscd.Card, error) {
	if c.belgian == none {
		return nil, nil
	}
	issuer, err := a.Belgium(c.applet)
	if err != nil {
		return nil, err
	}
	card, err := issuer.Personalise(beid.Options{Faults: c.belgianFaults})
	if err != nil {
		return nil, fmt.Errorf("make Belgian card: %w", err)
	}
	return card, nil
}

// startModule starts the police module with a resident's card on it, nil if there is to be none.
func (c choice) startModule() (*sam.Module, error) {
	if c.resident == none {
		return nil, nil
	}
	module, err := sam.Start()
	if err != nil {
		return nil, err
	}
	module.Fail(c.residentFault)
	module.Place(sam.Resident(sam.Specimen()))
	return module, nil
}

// onlySpecimen refuses what is no kind of card.
func (c choice) onlySpecimen() error {
	for name, kind := range map[string]string{"belgian": c.belgian, "resident": c.resident} {
		if kind != none && kind != "specimen" {
			return fmt.Errorf("%w: --%s is specimen or none", errUsage, name)
		}
	}
	return nil
}

// listed are names in a row.
func listed[Name ~string](names []Name, between string) string {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteString(between)
		}
		b.WriteString(string(name))
	}
	return b.String()
}
