package idcard

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"testing"

	"enrollkiosk/smartcard/apdu"
)

// Every step of reading a card is shown twice, in order, the second time as it
// leaves the chip.
func TestEditSeesEveryStep(t *testing.T) {
	var seen []Step
	var sealed, files int
	key, public := chipKey(t, AES128, P256)
	active, _ := chipKey(t, AES128, P256)
	plain := map[Step][]byte{}
	c := bare(t, Profile{
		PACE: []PACE{{GM, AES128, P256}}, BAC: true, ChipKeys: []*ChipKey{key},
		ActiveKey: &ActiveKey{Domain: P256, Private: active.Private, Hash: crypto.SHA256},
		Edit: func(e *Exchange) {
			if !e.Wire {
				seen = append(seen, e.Step)
				plain[e.Step] = e.Answer.Data
				if e.Step == StepRead && e.File == efCOM {
					files++
				}
				return
			}
			if seen[len(seen)-1] != e.Step {
				t.Errorf("%s leaves after %s", e.Step, seen[len(seen)-1])
			}
			if !bytes.Equal(e.Answer.Data, plain[e.Step]) {
				sealed++
			}
		},
	})
	r := connect(t, c)
	r.plain(apdu.Command{INS: 0xA4, P2: 0x0C})
	r.paceCAN()
	if sw := r.authenticateChip(key, public); sw != apdu.OK {
		t.Fatal(sw)
	}
	if _, err := r.send(apdu.Command{INS: 0xA4, P1: 2, P2: 0x0C, Data: []byte{1, 0x1E}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.send(apdu.Command{INS: 0x88, Data: make([]byte, 8), Le: 256}); err != nil {
		t.Fatal(err)
	}
	r = connect(t, c)
	r.selectApplication()
	if sw := r.bac(c.mrzKey); sw != apdu.OK {
		t.Fatal(sw)
	}
	want := []Step{StepSelectMaster, StepPACESet, StepPACENonce, StepPACEMap, StepPACEAgree, StepPACEConfirm,
		StepSelectApplication, StepChipSet, StepChipAgree, StepRead, StepSelectFile, StepActive,
		StepSelectApplication, StepChallenge, StepMutual}
	if !slices.Equal(seen, want) {
		t.Errorf("steps %q,\nwant %q", seen, want)
	}
	if sealed != 6 || files != 1 {
		t.Errorf("%d answers were sealed and EF.COM read %d times", sealed, files)
	}
}

// rewrite changes the objects inside 7C of one step's answer, before it is sealed.
func rewrite(step Step, change func([]object) []byte) func(*Exchange) {
	return func(e *Exchange) {
		if e.Step != step || e.Wire {
			return
		}
		outer, _ := readTLV(e.Answer.Data)
		list, _ := readTLV(outer[0].value)
		e.Answer.Data = tlv(0x7C, change(list))
	}
}

func TestEditPlaysPACE(t *testing.T) {
	v := PACE{GM, AES128, P256}
	for name, edit := range map[string]func(*Exchange){
		"tag of the nonce":    rewrite(StepPACENonce, func(l []object) []byte { return tlv(0x90, l[0].value) }),
		"tag of the mapping":  rewrite(StepPACEMap, func(l []object) []byte { return tlv(0x92, l[0].value) }),
		"point off the curve": rewrite(StepPACEAgree, func(l []object) []byte { l[0].value[64] ^= 1; return l[0].raw }),
		"no data":             func(e *Exchange) { e.Answer.Data = nil },
		"an error": func(e *Exchange) {
			if e.Step == StepPACEAgree {
				e.Answer = apdu.Response{Status: apdu.ConditionsNotSatisfied}
			}
		},
	} {
		c := bare(t, Profile{PACE: []PACE{v}, Edit: edit})
		r := connect(t, c)
		if r.pace(v, 2, []byte(c.CAN())); r.sm != nil {
			t.Errorf("%s: PACE went through", name)
		}
	}
}

func TestEditPlaysSecureMessaging(t *testing.T) {
	objects := func(change func([]object) []byte) func(*Exchange) {
		return func(e *Exchange) {
			if e.Wire && e.Step == StepRead {
				list, _ := readTLV(e.Answer.Data)
				e.Answer.Data = change(list)
			}
		}
	}
	join := func(list ...object) (b []byte) {
		for _, o := range list {
			b = append(b, o.raw...)
		}
		return b
	}
	for name, edit := range map[string]func(*Exchange){
		"no MAC":            objects(func(l []object) []byte { return join(l[:2]...) }),
		"no data":           objects(func(l []object) []byte { return join(l[1:]...) }),
		"no status":         objects(func(l []object) []byte { return join(l[0], l[2]) }),
		"a wrong MAC":       objects(func(l []object) []byte { l[2].value[0] ^= 1; return join(l...) }),
		"wrong cryptograms": objects(func(l []object) []byte { l[0].value[5] ^= 1; return join(l...) }),
	} {
		c := bare(t, Profile{Edit: edit})
		if _, err := openSession(t, c).read(efCOM); !errors.Is(err, errChannel) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := bare(t, Profile{Edit: func(e *Exchange) {
		if !e.Wire && e.Step == StepRead && e.File == dg2 {
			e.Answer = apdu.Response{Status: apdu.FileNotFound}
		}
	}})
	if _, err := openSession(t, c).read(dg2); !errors.Is(err, apdu.FileNotFound) {
		t.Errorf("a status put under secure messaging: %v", err)
	}
}

func TestEditKeepsOldKeys(t *testing.T) {
	key, public := chipKey(t, AES128, P256)
	c := bare(t, Profile{ChipKeys: []*ChipKey{key}, Edit: func(e *Exchange) { e.OldKeys = e.Step == StepChipAgree }})
	r := openSession(t, c)
	if sw := r.authenticateChip(key, public); sw != apdu.SMObjectsIncorrect {
		t.Fatalf("the new keys are in use: %v", sw)
	}
	r = openSession(t, c)
	for _, cmd := range []apdu.Command{
		{INS: 0x22, P1: 0x41, P2: 0xA4, Data: tlv(0x80, key.oid())},
		{INS: 0x86, Data: tlv(0x7C, tlv(0x80, public)), Le: 256},
	} {
		if a, err := r.send(cmd); err != nil || a.Status != apdu.OK {
			t.Fatal(a.Status, err)
		}
	}
	if _, err := r.read(efCOM); err != nil {
		t.Errorf("the old keys are gone: %v", err)
	}
}

func TestEditPlaysChipAuthenticationMapping(t *testing.T) {
	v := PACE{CAM, AES128, BrainpoolP256r1}
	key, public := chipKey(t, AES128, BrainpoolP256r1)
	open := func(edit func(*Exchange)) *terminal {
		c := bare(t, Profile{PACE: []PACE{v}, ChipKeys: []*ChipKey{key}, Edit: edit})
		r := connect(t, c)
		r.lenient = true
		if sw := r.pace(v, 2, []byte(c.CAN())); sw != apdu.OK {
			t.Fatal(sw)
		}
		return r
	}
	if r := open(nil); !r.proves(v.Domain, public) {
		t.Error("an honest chip's proof does not fit its key")
	}
	for name, change := range map[string]func([]object) []byte{
		"under tag 8B": func(l []object) []byte { return append(bytes.Clone(l[0].raw), tlv(0x8B, l[1].value)...) },
		"empty":        func(l []object) []byte { return append(bytes.Clone(l[0].raw), 0x8A, 0) },
		"missing":      func(l []object) []byte { return l[0].raw },
		"altered":      func(l []object) []byte { l[1].value[0] ^= 1; return append(bytes.Clone(l[0].raw), l[1].raw...) },
	} {
		if r := open(rewrite(StepPACEConfirm, change)); r.proves(v.Domain, public) {
			t.Errorf("chip authentication data %s: accepted", name)
		}
	}
	if other, _ := chipKey(t, AES128, BrainpoolP256r1); open(nil).proves(v.Domain, publicOf(other)) {
		t.Error("the proof fits another key")
	}
}

func publicOf(k *ChipKey) []byte {
	d, _ := k.Domain.agreement()
	return d.encode(d.mul(k.Private, d.base()))
}
