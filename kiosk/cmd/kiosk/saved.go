package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/prcid"
	"enrollkiosk/smartcard/trust"
)

// savedCard is document.json in a folder of saved files.
type savedCard struct {
	Kind   identity.Kind `json:"kind"`
	Access string        `json:"access,omitempty"`
}

const (
	savedIndex  = "document.json"
	savedSuffix = ".bin"
	maxSaved    = 1 << 20 // bytes of one file
)

func saveFiles(dir string, about savedCard, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	index, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, savedIndex), append(index, '\n'), 0o600); err != nil {
		return err
	}
	for name, b := range files {
		name = strings.ReplaceAll(name, "/", "_") // EF.ATR/INFO
		if err := os.WriteFile(filepath.Join(dir, name+savedSuffix), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// loadFiles reads what saveFiles wrote.
func loadFiles(dir string) (about savedCard, files map[string][]byte, err error) {
	index, err := os.ReadFile(filepath.Join(dir, savedIndex))
	if err != nil {
		return about, nil, usageError{fmt.Sprintf("%s is no folder of saved files: %v", dir, err)}
	}
	if err := json.Unmarshal(index, &about); err != nil {
		return about, nil, usageError{fmt.Sprintf("%s: %v", filepath.Join(dir, savedIndex), err)}
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"+savedSuffix))
	if err != nil {
		return about, nil, err
	}
	files = map[string][]byte{}
	for _, name := range names {
		info, err := os.Lstat(name)
		if err != nil {
			return about, nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > maxSaved {
			return about, nil, usageError{fmt.Sprintf("%s is no saved file", name)}
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return about, nil, err
		}
		files[strings.ReplaceAll(strings.TrimSuffix(filepath.Base(name), savedSuffix), "_", "/")] = b
	}
	return about, files, nil
}

// runCardVerify verifies saved files again. That the chip was the original is
// nothing that files can show: the report says not-checked.
func runCardVerify(_ context.Context, c *command) error {
	var f cardFlags
	c.flags.StringVar(&f.trust, "trust", "", "trust the issuers in `directory`, not those of the policy")
	at := c.flags.String("at", "", "judge as of `YYYY-MM-DD`; default: now")
	args, err := c.flagsDone("DIR")
	if err != nil {
		return err
	}
	when := time.Now()
	if *at != "" {
		if when, err = time.Parse(time.DateOnly, *at); err != nil {
			return usageError{fmt.Sprintf("--at: %q is not a day such as 2026-11-27", *at)}
		}
	}
	f.reader = "none"
	s, err := c.inspectionSetting(f)
	if err != nil {
		return err
	}
	about, files, err := loadFiles(args[0])
	if err != nil {
		return err
	}
	holder, report, refusal := s.verifySaved(about, files, when)
	if refusal != nil && !judged(refusal) {
		return refusal
	}
	out := cardReport{Kind: about.Kind, Access: about.Access}
	out.listFiles(files)
	out.fill(holder, refusal)
	if refusal != nil {
		out.unverified(files)
		out.ofReport(report)
	}
	if err := c.print(out.human(), out); err != nil {
		return err
	}
	return refusal
}

// verifySaved has the verifier of the document's kind look at its files.
func (s *inspectionOf) verifySaved(about savedCard, files map[string][]byte, at time.Time) (h identity.Holder, report trust.Report, err error) {
	switch about.Kind {
	case identity.EMRTD:
		doc := lds.Document{Files: map[lds.File][]byte{}, Access: about.Access}
		for name, b := range files {
			f, err := lds.ParseFile(name)
			if err != nil {
				return h, report, usageError{fmt.Sprintf("%q is no file of an eMRTD", name)}
			}
			doc.Files[f] = b
		}
		var verified trust.Holder
		if verified, report, err = trust.Verify(doc, s.trusted.Anchors, at, trust.Options{FaceWithheld: true}); err == nil {
			h, err = identity.OfEMRTD(verified)
		}
		return h, report, err
	case identity.BelgianEID:
		doc := beid.Document{Files: map[beid.File][]byte{}}
		err = byNumber(files, func(f uint16, b []byte) { doc.Files[beid.File(f)] = b })
		var verified beid.Holder
		if err == nil {
			verified, _, err = beid.Verify(doc, s.trusted.Belgian, at, beid.Options{PhotoWithheld: true})
		}
		if err == nil {
			h, err = identity.OfBelgian(verified)
		}
		return h, report, err
	case identity.PRCResident:
		var text []byte
		err = byNumber(files, func(f uint16, b []byte) {
			if f == identity.ResidentText {
				text = b
			}
		})
		var doc prcid.Document
		if err == nil {
			doc, err = prcid.Parse(text)
		}
		if err == nil {
			h, err = identity.OfResident(doc, at, s.unsigned)
		}
		return h, report, err
	}
	return h, report, usageError{fmt.Sprintf("%s: no kind of document is called %q", savedIndex, about.Kind)}
}

func byNumber(files map[string][]byte, take func(uint16, []byte)) error {
	for name, b := range files {
		n, err := strconv.ParseUint(name, 16, 16)
		if err != nil {
			return usageError{fmt.Sprintf("%q is no file of this kind of card", name)}
		}
		take(uint16(n), b)
	}
	return nil
}
