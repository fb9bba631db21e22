package pivtoken_test

import (
	"context"
	"testing"

	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/smartcard/apdu"
)

// terminal sends commands to a token as a reader would.
type terminal struct {
	t     *testing.T
	token *pivtoken.Token
}

func insert(t *testing.T, o pivtoken.Options) terminal {
	t.Helper()
	term := terminal{t, pivtoken.New(o)}
	term.token.Reset()
	return term
}

// send sends one command with chaining and fetches the whole answer.
func (term terminal) send(ins, p1, p2 byte, data ...byte) ([]byte, apdu.Status) {
	term.t.Helper()
	cla := byte(0x10)
	var answer []byte
	for {
		chunk := data
		if len(chunk) > 255 {
			chunk = chunk[:255]
		} else {
			cla = 0
		}
		data = data[len(chunk):]
		c := apdu.Command{CLA: cla, INS: ins, P1: p1, P2: p2, Data: chunk}
		if len(chunk) == 0 {
			c.Le = 256
		}
		r := term.raw(c)
		answer = append(answer, r.Data...)
		for r.Status>>8 == 0x61 {
			r = term.raw(apdu.Command{INS: 0xC0, Le: 256})
			answer = append(answer, r.Data...)
		}
		if cla == 0 || r.Status != apdu.OK {
			return answer, r.Status
		}
	}
}

func (term terminal) raw(c apdu.Command) apdu.Response {
	term.t.Helper()
	b, err := c.Bytes()
	if err != nil {
		term.t.Fatal(err)
	}
	r, err := apdu.ParseResponse(term.token.Transmit(context.Background(), b))
	if err != nil {
		term.t.Fatal(err)
	}
	return r
}

// must is send for a command that succeeds.
func (term terminal) must(ins, p1, p2 byte, data ...byte) []byte {
	term.t.Helper()
	answer, status := term.send(ins, p1, p2, data...)
	if status != apdu.OK {
		term.t.Fatalf("command %02X %02X %02X: %v", ins, p1, p2, status)
	}
	return answer
}

func (term terminal) refuses(want apdu.Status, ins, p1, p2 byte, data ...byte) {
	term.t.Helper()
	if _, status := term.send(ins, p1, p2, data...); status != want {
		term.t.Errorf("command %02X %02X %02X: %v, want %v", ins, p1, p2, status, want)
	}
}

func (term terminal) selectPIV() {
	term.t.Helper()
	term.must(0xA4, 4, 0, 0xA0, 0, 0, 3, 8)
}
