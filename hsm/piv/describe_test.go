package piv_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/simulators/pivtoken"
)

func describe(t *testing.T, reader string) piv.Description {
	t.Helper()
	d, err := piv.Describe(within(t, 10*time.Second), reader)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDescribe(t *testing.T) {
	r, _ := insert(t, pivtoken.Options{})
	count := counting(r)
	d := describe(t, r.Name())
	if d.Application != "1.0" || d.Serial != 10000001 || d.Firmware != "5.7.4" || d.FormFactor != "USB-A keychain" || !d.CanAttest || !d.CanAgree ||
		d.PIN != (piv.Tries{Left: 3, Total: 3, Setting: piv.FactorySet}) || d.PUK != d.PIN || d.Management != (piv.Management{Algorithm: "aes-192", Touch: "never", Setting: piv.FactorySet}) ||
		d.PINUsage != "4000" || d.CHUID != nil || len(d.Problems) != 0 || d.Ready || !d.FactoryNew {
		t.Errorf("factory-new: %+v", d)
	}
	if len(d.Slots) != 1 || d.Slots[0].Slot != "F9" {
		t.Errorf("factory-new: %+v", d.Slots)
	}
	if count(verify)+count(0x24)+count(putData)+count(generate) != 0 {
		t.Error("something was written or a PIN presented")
	}
	exclusive(t, r)

	r, _ = finished(t)
	d = describe(t, r.Name())
	if !d.Ready || d.FactoryNew || d.CHUID == nil || len(d.CHUID.GUID) != 32 || d.CHUID.Expires != "20991231" || len(d.Slots) != 3 {
		t.Fatalf("finished: %+v", d)
	}
	for i, want := range []string{"9A p-256 once always", "9D p-256 once cached"} {
		o := d.Slots[i]
		if got := strings.Join([]string{o.Slot, o.Algorithm, o.PIN, o.Touch}, " "); got != want || o.Certificate == nil || o.Certificate.Subject != "" ||
			o.Certificate.Issuer != "CN=Key container" || o.Certificate.OtherKey || o.Evidence == nil || o.Public == nil {
			t.Errorf("%s: %+v", got, o)
		}
	}
	if b, err := json.Marshal(d); err != nil || !strings.Contains(string(b), `"setting":"replaced"`) {
		t.Errorf("%s %v", b, err)
	}
}

// Cards of other makers, and broken ones, are described as far as they go.
func TestDescribeOddCards(t *testing.T) {
	for name, c := range map[string]struct {
		faults   pivtoken.Fault
		answer   func([]byte) []byte
		problems string
	}{
		"plain NIST":   {pivtoken.PlainNIST, nil, ""},
		"PivApplet":    {pivtoken.LikePivApplet, nil, ""},
		"Nitrokey":     {pivtoken.LikeNitrokey, nil, "short identifier"},
		"no agreement": {pivtoken.NoAgreement, nil, ""},
		"nonsense in every object": {0, func(c []byte) []byte {
			if c[1] == 0xCB {
				return []byte{0x53, 0x82, 0xFF, 0xFF, 0x00, 0x90, 0x00}
			}
			return nil
		}, "CHUID"},
		"certificates that are none": {0, func(c []byte) []byte {
			if c[1] == 0xCB {
				return []byte{0x53, 4, 0x70, 2, 0x30, 0x00, 0x90, 0x00}
			}
			return nil
		}, "slot 9A"},
		"compressed certificates": {0, func(c []byte) []byte {
			if c[1] == 0xCB {
				return []byte{0x53, 7, 0x70, 2, 0x30, 0x00, 0x71, 1, 1, 0x90, 0x00}
			}
			return nil
		}, "compressed"},
		"nonsense as metadata": {pivtoken.Provisioned, func(c []byte) []byte {
			if c[1] == 0xF7 {
				return []byte{0x01, 0x82, 0x90, 0x00}
			}
			return nil
		}, ""},
		"another template": {0, func(c []byte) []byte {
			if c[1] == 0xA4 {
				return []byte{0x61, 0x00, 0x90, 0x00}
			}
			return nil
		}, "SELECT"},
	} {
		t.Run(name, func(t *testing.T) {
			r := bench(t)
			answer := c.answer
			if answer == nil {
				answer = func([]byte) []byte { return nil }
			}
			r.Insert(altered{pivtoken.New(pivtoken.Options{Root: authority, Faults: c.faults}), func(_ context.Context, command []byte) []byte { return answer(command) }})
			d := describe(t, r.Name())
			if (c.problems == "") != (len(d.Problems) == 0) || !slices.ContainsFunc(append(d.Problems, ""), func(p string) bool { return strings.Contains(p, c.problems) }) {
				t.Errorf("%q, want %q", d.Problems, c.problems)
			}
			if d.Ready || c.answer == nil && d.CanAgree == (c.faults&pivtoken.NoAgreement != 0) {
				t.Errorf("%+v", d)
			}
		})
	}
	r := bench(t)
	r.Insert(altered{pivtoken.New(pivtoken.Options{}), func(context.Context, []byte) []byte { return []byte{0x6A, 0x82} }})
	_, err := piv.Describe(within(t, 5*time.Second), r.Name())
	wants(t, "not PIV", err, hsm.ErrNotPIV)
}
