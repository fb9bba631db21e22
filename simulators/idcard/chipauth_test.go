package idcard

import (
	"fmt"
	"math/big"
	"testing"

	"enrollkiosk/smartcard/apdu"
)

func TestEveryChipAuthentication(t *testing.T) {
	for _, d := range append(domains(), DH1024_160, DH2048_224, DH2048_256) {
		for suite := TripleDES; suite <= AES256; suite++ {
			if !sampled(GM, suite, d) {
				continue
			}
			t.Run(fmt.Sprintf("suite %d domain %d", suite, d), func(t *testing.T) {
				key, public := chipKey(t, suite, d)
				r := openSession(t, bare(t, Profile{ChipKeys: []*ChipKey{key}}))
				if sw := r.authenticateChip(key, public); sw != apdu.OK {
					t.Fatal(sw)
				}
				if _, err := r.read(dg2); err != nil {
					t.Errorf("read under the new keys: %v", err)
				}
			})
		}
	}
}

func TestSeveralChipKeys(t *testing.T) {
	var keys []*ChipKey
	var publics [][]byte
	for i, d := range []Domain{P256, BrainpoolP384r1, DH2048_256} {
		key, public := chipKey(t, AES128, d)
		key.ID = big.NewInt(int64(10 + i))
		keys, publics = append(keys, key), append(publics, public)
	}
	c := bare(t, Profile{ChipKeys: keys})
	for i, key := range keys {
		r := openSession(t, c)
		if sw := r.authenticateChip(key, publics[i]); sw != apdu.OK {
			t.Errorf("key %d: %v", key.ID, sw)
		}
	}
	for name, data := range map[string][]byte{
		"no reference":     tlv(0x80, keys[0].oid()),
		"an unknown key":   append(tlv(0x80, keys[0].oid()), 0x84, 1, 9),
		"an empty one":     append(tlv(0x80, keys[0].oid()), 0x84, 0),
		"another protocol": append(tlv(0x80, keys[2].oid()), 0x84, 1, 10),
	} {
		r := openSession(t, c)
		want := apdu.ReferencedDataNotFound
		if name == "another protocol" {
			want = apdu.WrongData
		}
		if a, err := r.send(apdu.Command{INS: 0x22, P1: 0x41, P2: 0xA4, Data: data}); err != nil || a.Status != want {
			t.Errorf("%s: %v, %v", name, a.Status, err)
		}
		if _, err := r.read(efCOM); err != nil {
			t.Errorf("%s: the old session is lost: %v", name, err)
		}
	}
}

// Keys outside the group are refused, and the old session goes on (9303-11 6.2.4).
func TestChipAuthenticationRefusesForeignKeys(t *testing.T) {
	for _, d := range []Domain{P256, DH1024_160} {
		key, public := chipKey(t, AES128, d)
		group, _ := d.agreement()
		bad := map[string][]byte{
			"nothing":     {},
			"too short":   public[:len(public)-1],
			"zero before": append([]byte{0}, public...),
		}
		if d.overFiniteField() {
			p := group.modulus()
			bad["one"] = []byte{1}
			bad["minus one"] = new(big.Int).Sub(p, one).Bytes()
			bad["the prime"] = p.Bytes()
			bad["outside the subgroup"] = []byte{2}
			short := group.base() // an unsigned integer has no leading zero byte (9303-11 9.4.1)
			for len(group.encode(short)) == len(p.Bytes()) {
				short = group.add(short, group.base())
			}
			bad["padded"] = group.secret(short)
		} else {
			off := append([]byte(nil), public...)
			off[len(off)-1] ^= 1
			bad["off the curve"] = off
			bad["infinity"] = []byte{0}
			bad["compressed"] = append([]byte{2}, public[1:33]...)
		}
		for name, b := range bad {
			r := openSession(t, bare(t, Profile{ChipKeys: []*ChipKey{key}}))
			if a, err := r.send(apdu.Command{INS: 0x22, P1: 0x41, P2: 0xA4, Data: tlv(0x80, key.oid())}); err != nil || a.Status != apdu.OK {
				t.Fatal(a.Status, err)
			}
			a, err := r.send(apdu.Command{INS: 0x86, Data: tlv(0x7C, tlv(0x80, b)), Le: 256})
			if err != nil || a.Status != apdu.WrongData {
				t.Errorf("domain %d, %s: %v, %v", d, name, a.Status, err)
			}
			if _, err := r.read(efCOM); err != nil {
				t.Errorf("domain %d, %s: the old session is lost: %v", d, name, err)
			}
		}
	}
}
