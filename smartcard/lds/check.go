package lds

import (
	"fmt"
	"slices"

	"enrollkiosk/smartcard/tlv"
)

// Warning is a slip of whoever wrote a file that spoils nothing.
type Warning string

// Warnings.
const (
	WarnLDSVersion    Warning = "lds-version"    // EF.COM names one from before those in force
	WarnUnknownObject Warning = "unknown-object" // something of no standard stands in the file
	WarnTagList       Warning = "tag-list"       // DG11 or DG12 lists other objects than it holds
	WarnFieldUnread   Warning = "field-unread"   // a field of DG11, DG12 or DG16 makes no sense
	WarnBiometricType Warning = "biometric-type" // an outdated code
	WarnFaceLength    Warning = "face-length"    // a length in the facial record is a little off
	WarnFaceCode      Warning = "face-code"      // the facial record has a code without meaning
	WarnFaceFormat    Warning = "face-format"    // the face is in another image format than stated
	WarnFaceVersion   Warning = "face-version"   // of a data block, from before the first edition
	WarnManyFaces     Warning = "many-faces"     // where ICAO's profile allows one
)

// findings are what reading a file came across and went on from: a fault, for
// which the file must not be accepted, and warnings.
type findings struct {
	fault    error // the first
	warnings []Warning
}

func (f *findings) warn(w Warning) {
	if !slices.Contains(f.warnings, w) {
		f.warnings = append(f.warnings, w)
	}
}

func (f *findings) broken(what string) {
	if f.fault == nil {
		f.fault = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
}

// Check says whether a file is built as its standard asks, stricter than the
// parsers, which show what can be shown. It fails with ErrMalformed; with
// ErrCheckDigit for a wrong digit in DG1; or with ErrUnsupported for content
// that is in order as far as this package can see. Files whose structure it does
// not know (DG3, DG4, DG6, DG8 to DG10, DG13) need their outer tag and length; so
// does EF.CardSecurity, which is judged together with its own signature.
func Check(file File, content []byte) ([]Warning, error) {
	var f findings
	err := f.read(file, content)
	switch {
	case err != nil:
		return f.warnings, err
	case f.fault != nil:
		return f.warnings, malformed(file.String(), f.fault)
	}
	return f.warnings, nil
}

func (f *findings) read(file File, content []byte) error {
	var err error
	switch file {
	case EFCOM:
		var com COM
		if com, err = ParseCOM(content); err == nil {
			com.check(f)
		}
	case EFSOD:
		_, err = ParseSOD(content)
	case EFCardAccess:
		_, err = ParseCardAccess(content)
	case EFDIR:
		_, err = ParseDIR(content)
	case EFATRInfo:
		_, err = ParseATRInfo(content)
	case DG1:
		_, err = ParseDG1(content)
	case DG2:
		_, err = readDG2(content, f)
	case DG5:
		_, err = ParseDG5(content)
	case DG7:
		_, err = ParseDG7(content)
	case DG11:
		_, err = readDG11(content, f)
	case DG12:
		_, err = readDG12(content, f)
	case DG14:
		var infos SecurityInfos
		if infos, err = ParseDG14(content); err == nil {
			infos.check(f)
		}
	case DG15:
		_, err = ParseDG15(content)
	case DG16:
		_, err = readDG16(content, f)
	default:
		if file.Tag() == 0 {
			return fmt.Errorf("%v: %w", file, ErrUnsupported)
		}
		if _, err = tlv.ParseOne(content, file.Tag()); err != nil {
			err = malformed(file.String(), err)
		}
	}
	return err
}

// check holds DG14 to Doc 9303-11 9.2.5 and 9.2.6: a key of the chip and the
// protocol that uses it come together, and agree on the key's number.
func (s SecurityInfos) check(f *findings) {
	if len(s.ChipAuthentication) > 0 && len(s.ChipAuthenticationKeys) == 0 {
		f.broken("Chip Authentication without a key")
	}
	if len(s.ChipAuthenticationKeys) > 0 && len(s.ChipAuthentication) == 0 {
		f.broken("key of the chip without a protocol")
	}
	for _, i := range s.ChipAuthentication {
		if i.Version < 1 || i.Version > 3 { // 2 and 3 are those of BSI TR-03110
			f.broken("version of Chip Authentication")
		}
		numbered := func(k ChipAuthenticationPublicKeyInfo) bool { return k.KeyID != nil && k.KeyID.Cmp(i.KeyID) == 0 }
		if i.KeyID != nil && !slices.ContainsFunc(s.ChipAuthenticationKeys, numbered) {
			f.broken("Chip Authentication with a key that is not there")
		}
	}
}
