package ui

import (
	"strings"

	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// trouble: what is so, what to do, what is safe; below, for the officer, the
// cause and the code. The main button is the remedy.
func (d *drawing) trouble() page {
	f := kiosk.Fault{Code: kiosk.CodeInternal}
	if d.s.Fault != nil {
		f = *d.s.Fault
	}
	t := d.w.Trouble(f)
	staff := stack(4, label(d.w.Label(words.ForOfficer, nil)+" · "+string(f.Code)).bold().sized(17), label(t.Staff).in(ink))
	text := stack(20,
		notice(cautPale, caution, beside(18, []float32{0, 1}, sign("warning"), stack(8, body(t.Do).bold(), body(t.Safe)))),
		panel(staff))
	p := d.standard(beside(32, []float32{1, 0}, text, container.New(startLayout{}, d.illustration(about(f.Code), 320, 240))))
	p.title, p.lead, p.say = t.Headline, "", t.Do+" "+t.Safe
	return p
}

// about is the drawing of what is to be done about a code, or of the thing that it
// is about.
func about(c kiosk.Code) string {
	switch c {
	case kiosk.CodeServiceMissing, kiosk.CodeReaderMissing, kiosk.CodeModuleMissing:
		return "reader-unplugged"
	case kiosk.CodeCardMute:
		return "turn-card"
	case kiosk.CodeWrongAccess:
		return "card-number"
	case kiosk.CodeNotEMRTD, kiosk.CodeAccessDenied, kiosk.CodeKindRefused, kiosk.CodeExpired, kiosk.CodeUnreadable, kiosk.CodeCannotProve:
		return "other-card"
	case kiosk.CodeTokenPINBlocked, kiosk.CodeOwnBlocked:
		return "token-locked"
	case kiosk.CodeTouchTimeout, kiosk.CodeOwnTouch:
		return "touch-token"
	case kiosk.CodeKeyWaits, kiosk.CodeTooMany, kiosk.CodeTimedOut:
		return "clock"
	case kiosk.CodeOffline:
		return "no-network"
	case kiosk.CodeNotWritten:
		return "disk"
	}
	class, _, _ := strings.Cut(strings.TrimPrefix(string(c), "K-"), "-")
	switch class {
	case "CARD", "GUARDIAN":
		return "place-card"
	case "PROOF":
		return "officer-helps" // nobody is accused
	case "TOKEN", "OWN":
		return "insert-token"
	case "KEY", "TPM":
		return "security-chip"
	case "RECEIPT":
		return "show-receipt"
	case "OFFICER":
		return "officer-card"
	case "QUEUE":
		return "disk"
	case "POLICY", "KIOSK":
		return "rules"
	case "CLOCK":
		return "clock"
	case "ASK", "NET", "LOG":
		return "no-network"
	case "PRINT":
		return "printer"
	}
	return "kiosk-trouble"
}
