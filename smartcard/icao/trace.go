package icao

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// Trace writes every command and answer that cross card to w, one line each, fit
// to be sent to somebody else: headers, lengths, status words and the tags and
// lengths of data objects. Of data fields it shows those of SELECT and MANAGE
// SECURITY ENVIRONMENT, and what EF.CardAccess and EF.ATR/INFO say; of all
// others, be they plain or protected, only the length. Errors of w are dropped.
func Trace(card apdu.Card, w io.Writer) apdu.Card {
	t := &tracer{Card: card, w: w}
	if r, ok := card.(resetter); ok {
		return &resettableTracer{t, r}
	}
	return t
}

// tracer follows what file is read, as far as deciding what to show needs it.
type tracer struct {
	apdu.Card
	w      io.Writer
	inside bool     // the application has been selected
	public lds.File // the current file, if it is one that may be shown
}

type resettableTracer struct {
	*tracer
	card resetter
}

// MaxAPDU and ATR are those of the card, if it has them.
func (t *tracer) MaxAPDU() int {
	if l, ok := t.Card.(limited); ok {
		return l.MaxAPDU()
	}
	return 0
}

func (t *tracer) ATR() []byte {
	if i, ok := t.Card.(identified); ok {
		return i.ATR()
	}
	return nil
}

func (t *resettableTracer) Reset(ctx context.Context) error {
	err := t.card.Reset(ctx)
	t.inside, t.public = false, 0
	fmt.Fprintf(t.w, "= reset %s\n", outcomeWord(err))
	return err
}

// Transmit is the card's.
func (t *tracer) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	c, parseErr := apdu.ParseCommand(command)
	if parseErr != nil {
		fmt.Fprintf(t.w, "> <%d bytes, no command>\n", len(command))
	} else {
		fmt.Fprintf(t.w, "> %s\n", t.command(c))
	}
	answer, err := t.Card.Transmit(ctx, command)
	if err != nil {
		fmt.Fprintf(t.w, "< %s\n", outcomeWord(err))
		return answer, err
	}
	r, err := apdu.ParseResponse(answer)
	switch {
	case err != nil:
		fmt.Fprintf(t.w, "< <%d bytes, no answer>\n", len(answer))
	case parseErr != nil:
		t.inside, t.public = true, 0 // it may have been anything
		fmt.Fprintf(t.w, "< %s%04X\n", hidden(r.Data), uint16(r.Status))
	default:
		fmt.Fprintf(t.w, "< %s%04X\n", t.answer(c, r), uint16(r.Status))
	}
	return answer, nil
}

// outcomeWord leaves out what an error says: it may be anything.
func outcomeWord(err error) string {
	if err != nil {
		return "failed"
	}
	return "done"
}

func secured(c apdu.Command) bool { return c.CLA&0x0C != 0 }

func (t *tracer) command(c apdu.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%02X%02X%02X%02X", c.CLA, c.INS, c.P1, c.P2)
	if c.Extended {
		b.WriteString(" extended")
	}
	if len(c.Data) > 0 {
		field := hidden(c.Data)
		if !secured(c) && (c.INS == 0xA4 || c.INS == 0x22) {
			field = fmt.Sprintf("%X ", c.Data)
		}
		fmt.Fprintf(&b, " Lc %d %s", len(c.Data), strings.TrimSuffix(field, " "))
	}
	if c.Le > 0 {
		fmt.Fprintf(&b, " Le %d", c.Le)
	}
	return b.String()
}

// answer also follows the files: EF.CardAccess and EF.ATR/INFO are shown when
// they were asked for outside the application, in plain, and look the part.
func (t *tracer) answer(c apdu.Command, r apdu.Response) string {
	if secured(c) {
		t.inside, t.public = true, 0
		return hidden(r.Data)
	}
	done := r.Status == apdu.OK
	switch {
	case c.INS == 0xA4:
		switch {
		case done && c.P1 == 0x04:
			t.inside, t.public = true, 0
		case done && c.P1 == 0:
			t.inside, t.public = false, 0
		case c.P1 == 0x02:
			t.public = 0
			for _, f := range []lds.File{lds.EFCardAccess, lds.EFATRInfo} {
				if done && !t.inside && bytes.Equal(c.Data, []byte{byte(f.FID() >> 8), byte(f.FID())}) {
					t.public = f
				}
			}
		}
		return hidden(r.Data)
	case c.INS != 0xB0 || len(r.Data) == 0:
		return hidden(r.Data)
	}
	start := c.P2 == 0
	if c.P1&0x80 != 0 {
		t.public = 0
		for _, f := range []lds.File{lds.EFCardAccess, lds.EFATRInfo} {
			if !t.inside && c.P1 == 0x80|f.SFI() {
				t.public = f
			}
		}
	} else {
		start = start && c.P1 == 0
	}
	if start {
		switch first := tlv.Tag(r.Data[0]); {
		case t.public == lds.EFCardAccess && first == 0x31:
		case t.public == lds.EFATRInfo && (first == 0x43 || first == 0x46 || first == 0x47 || first == 0x7F || first == 0xE0):
		default:
			t.public = 0
		}
	}
	if t.public != 0 {
		return fmt.Sprintf("%X ", r.Data)
	}
	return hidden(r.Data)
}

// hidden is a data field by the tags and lengths of its objects, or by its
// length alone.
func hidden(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	nodes, err := tlv.Parse(b)
	if err != nil || !protocolObjects(nodes) {
		return fmt.Sprintf("<%d bytes> ", len(b))
	}
	var s strings.Builder
	for _, n := range nodes {
		if n.Tag == doAuthentication {
			fmt.Fprintf(&s, "7C{%s} ", strings.TrimSuffix(hidden(n.Value), " "))
			continue
		}
		fmt.Fprintf(&s, "%X:%d ", uint32(n.Tag), len(n.Value))
	}
	return s.String()
}

// protocolObjects says whether all objects are such as secure messaging and
// GENERAL AUTHENTICATE use. The tags of anything else may be data by chance.
func protocolObjects(nodes []tlv.Node) bool {
	for _, n := range nodes {
		switch {
		case n.Tag == doAuthentication, n.Tag >= 0x80 && n.Tag <= doChipData, n.Tag == doMAC, n.Tag == doLe, n.Tag == doStatus:
		default:
			return false
		}
	}
	return true
}
