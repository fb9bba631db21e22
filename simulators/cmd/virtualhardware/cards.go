package main

import (
	"fmt"
	"os"
	"strings"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/simulators/specimen"
)

// choice is what the command line says about the cards.
type choice struct {
	authority            string
	idcard, idcardFaults string
	token, tokenFaults   string
	officer, officerPIN  string
}

const none = "none"

// single is the one card for a virtual reader.
func (c choice) single(a *specimen.Authority, given map[string]bool) (pcscd.Card, error) {
	var card pcscd.Card
	for name, make := range map[string]func(*specimen.Authority) (pcscd.Card, error){
		"idcard": c.idCardOrNone, "token": c.tokenOrNone, "officer": c.officerOrNone,
	} {
		if !given[name] {
			continue
		}
		if card != nil {
			return nil, fmt.Errorf("%w: --vpcd takes one of --idcard, --token and --officer", errUsage)
		}
		var err error
		if card, err = make(a); err != nil {
			return nil, err
		}
	}
	if card == nil {
		return nil, fmt.Errorf("%w: --vpcd takes one of --idcard, --token and --officer", errUsage)
	}
	return card, nil
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
