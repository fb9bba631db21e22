package trust

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/big"
	"slices"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/lds"
)

// Kind is the kind of card that a holder was verified from.
type Kind string

// EMRTD is a document of ICAO Doc 9303.
const EMRTD Kind = "emrtd"

// Holder is a verified document. Only [Verify] makes one; the zero value is not
// valid. It refuses to print and to marshal; two pointers keep it closed in
// unexported fields too, as they do in [secret.Text].
type Holder struct{ p **holder }

// holder keeps bytes, not what was parsed from them: everything handed out is
// made anew, so that nobody can alter it behind the next caller's back.
type holder struct {
	kind   Kind
	doc    lds.Document
	report Report
}

// Valid says whether h comes from Verify. The other methods give zero values
// when it does not.
func (h Holder) Valid() bool { return h.p != nil }

// Kind is the kind of card, "" for the zero value.
func (h Holder) Kind() Kind {
	if h.p == nil {
		return ""
	}
	return (*h.p).kind
}

// MRZ is the machine readable zone of the document.
func (h Holder) MRZ() lds.MRZ {
	if h.p == nil {
		return lds.MRZ{}
	}
	m, _ := lds.ParseDG1((*h.p).doc.Files[lds.DG1]) // Verify has seen it parse
	return m
}

// Face is the first face of DG2. It fails when the image is in a form that
// package lds does not read.
func (h Holder) Face() (lds.Face, error) {
	if h.p == nil {
		return lds.Face{}, ErrMissing
	}
	faces, err := lds.ParseDG2((*h.p).doc.Files[lds.DG2])
	if err != nil {
		return lds.Face{}, err
	}
	return faces[0], nil
}

// Proofs are what has been shown of the document.
func (h Holder) Proofs() []Proof { return h.Report().Proofs() }

// Document is what was verified: SOD and the data groups it vouches for,
// EF.CardSecurity, and the chip's evidence. Files that nobody signed (EF.COM,
// EF.CardAccess) are left out.
func (h Holder) Document() lds.Document {
	if h.p == nil {
		return lds.Document{}
	}
	return clone((*h.p).doc)
}

// Simulated says that the document's authority is of class test. It is true
// of the zero value.
func (h Holder) Simulated() bool { return h.p == nil || (*h.p).report.Simulated }

// Report is the report that Verify returned with h.
func (h Holder) Report() Report {
	if h.p == nil {
		return Report{}
	}
	return (*h.p).report.clone()
}

// Format prints [secret.Redacted] for every verb.
func (Holder) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

func (Holder) LogValue() slog.Value         { return slog.StringValue(secret.Redacted) }
func (Holder) MarshalJSON() ([]byte, error) { return nil, secret.ErrMarshal }
func (Holder) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }
func (Holder) GobEncode() ([]byte, error)   { return nil, secret.ErrMarshal }

// clone copies a document deeply.
func clone(d lds.Document) lds.Document {
	c := lds.Document{Files: make(map[lds.File][]byte, len(d.Files)), Access: d.Access}
	for f, b := range d.Files {
		c.Files[f] = bytes.Clone(b)
	}
	if e := d.Chip; e != nil {
		c.Chip = &lds.ChipAuthentication{
			Protocol: slices.Clone(e.Protocol), TerminalKey: secret.New(bytes.Clone(e.TerminalKey.Reveal())),
			Command: bytes.Clone(e.Command), Response: bytes.Clone(e.Response), SSC: bytes.Clone(e.SSC),
		}
		if e.KeyID != nil {
			c.Chip.KeyID = new(big.Int).Set(e.KeyID)
		}
	}
	if e := d.CAM; e != nil {
		c.CAM = &lds.ChipMapping{
			Protocol: slices.Clone(e.Protocol), ParameterID: e.ParameterID,
			MappingKey: bytes.Clone(e.MappingKey), Data: bytes.Clone(e.Data),
		}
	}
	if e := d.Active; e != nil {
		c.Active = &lds.ActiveAuthentication{Challenge: e.Challenge, Signature: bytes.Clone(e.Signature)}
	}
	return c
}
