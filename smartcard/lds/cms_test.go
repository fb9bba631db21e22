package lds_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// The same object in DER and as a streaming encoder writes it.
func TestIndefiniteLength(t *testing.T) {
	file := loadFiles(t)["EF.SOD"]
	want, err := lds.ParseSOD(file)
	if err != nil {
		t.Fatal(err)
	}
	streamed := idcard.EditBytes(func(n *idcard.Node) {
		signedData := n.Find(0x30, 0xA0, 0x30)
		octets := signedData.Find(0x30, 0xA0, 0x04)
		first, second := &idcard.Node{Tag: 0x04, Value: octets.Value[:7]}, &idcard.Node{Tag: 0x04, Value: octets.Value[7:]}
		*octets = idcard.Node{Tag: 0x24, Indefinite: true, Children: []*idcard.Node{first, second}}
		var open func(n *idcard.Node)
		open = func(n *idcard.Node) {
			if n.Tag&0x20 != 0 {
				n.Indefinite = true
			}
			for _, c := range n.Children {
				open(c)
			}
		}
		open(n)
	})(file)
	if len(streamed) <= len(file) {
		t.Fatalf("%d bytes", len(streamed))
	}
	got, err := lds.ParseSOD(streamed)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case !bytes.Equal(got.Content, want.Content), !bytes.Equal(got.Signer.Attributes, want.Signer.Attributes),
		!bytes.Equal(got.Certificates[0], want.Certificates[0]), !bytes.Equal(got.Signer.Signature, want.Signer.Signature),
		!bytes.Equal(got.Hashes[lds.DG1], want.Hashes[lds.DG1]):
		t.Error("the two differ")
	}
}

func TestContentTypes(t *testing.T) {
	file := loadFiles(t)["EF.SOD"]
	with := func(id string, version byte) []byte {
		return idcard.EditBytes(func(n *idcard.Node) {
			signedData := n.Find(0x30, 0xA0, 0x30)
			signedData.Children[0].SetInt(version)
			signedData.Find(0x30).Children[0].SetOID(id)
		})(file)
	}
	for _, c := range []struct {
		id      string
		version byte
		ok      bool
	}{
		{"2.23.136.1.1.1", 3, true},
		{"1.3.27.1.1.1", 3, true},
		{"1.2.528.1.1006.1.20.1", 3, true},
		{"1.2.840.113549.1.7.1", 1, true},
		{"1.2.840.113549.1.7.1", 3, true},
		{"2.23.136.1.1.1", 1, false},
		{"2.23.136.1.1.1", 4, false},
		{"2.23.136.1.1.2", 3, false},
		{"0.4.0.127.0.7.3.2.1", 3, false},
	} {
		if _, err := lds.ParseSOD(with(c.id, c.version)); (err == nil) != c.ok || err != nil && !errors.Is(err, lds.ErrUnsupported) {
			t.Errorf("%s in version %d: %v", c.id, c.version, err)
		}
	}
}

// The cards of the BSI's worked example.
func TestCardSecurity(t *testing.T) {
	b, err := os.ReadFile("testdata/cardsecurity.json")
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Vectors []struct {
			Name, Bytes string
			PublicKey   string `json:"public_key"`
		}
	}
	if err := json.Unmarshal(b, &f); err != nil || len(f.Vectors) != 2 {
		t.Fatal(err)
	}
	for _, v := range f.Vectors {
		file := unhex(t, v.Bytes)
		s, err := lds.ParseCardSecurity(file)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		found := false
		for _, k := range s.Infos.ChipAuthenticationKeys {
			key, err := lds.ParseAgreementKey(k.SPKI)
			found = found || err == nil && bytes.Equal(bytes.TrimLeft(key.Group.Encode(key.Public), "\x00"), bytes.TrimLeft(unhex(t, v.PublicKey), "\x00"))
		}
		if !found || len(s.Certificates) != 1 || len(s.Infos.PACE) == 0 {
			t.Errorf("%s: the chip's key is not there", v.Name)
		}
		for n := range file {
			if _, err := lds.ParseCardSecurity(file[:n]); !errors.Is(err, lds.ErrMalformed) {
				t.Fatalf("%s, first %d bytes: %v", v.Name, n, err)
			}
		}
		if _, err := lds.ParseCardSecurity(append(bytes.Clone(file), 0)); !errors.Is(err, lds.ErrMalformed) {
			t.Errorf("%s with a byte after it: %v", v.Name, err)
		}
	}
	if _, err := lds.ParseCardSecurity(tlvValue(t, loadFiles(t)["EF.SOD"])); !errors.Is(err, lds.ErrUnsupported) {
		t.Errorf("an SOD: %v", err)
	}
}

func tlvValue(t testing.TB, b []byte) []byte {
	t.Helper()
	_, header, _, err := tlv.Header(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[header:]
}

// masterList puts a list into the signed data of the specimen's SOD.
func masterList(t testing.TB, content []byte) []byte {
	file := tlvValue(t, loadFiles(t)["EF.SOD"])
	return idcard.EditBytes(func(n *idcard.Node) {
		content := &idcard.Node{Tag: 0x04, Value: content}
		encapsulated := n.Find(0xA0, 0x30, 0x30)
		encapsulated.Children[0].SetOID("2.23.136.1.1.2")
		encapsulated.Find(0xA0).Children = []*idcard.Node{content}
	})(file)
}

func TestMasterList(t *testing.T) {
	one, other := tlv.Encode(0x30, []byte{5, 0}), tlv.Encode(0x04, []byte("no certificate"))
	list := func(version int, items ...[]byte) []byte {
		return masterList(t, tlv.Encode(0x30, der(t, version), tlv.Encode(0x31, items...)))
	}
	l, err := lds.ParseMasterList(list(0, one, other))
	if err != nil || len(l.List) != 2 || !bytes.Equal(l.List[0], one) || !bytes.Equal(l.List[1], other) {
		t.Errorf("%d certificates, %v", len(l.List), err)
	}
	for name, b := range map[string][]byte{
		"version 1":     list(1, one),
		"torn":          list(0, one[:1]),
		"too many":      list(0, bytes.Repeat([]byte{5, 0}, 1<<13+1)),
		"no list":       masterList(t, tlv.Encode(0x30, der(t, 0))),
		"another thing": tlvValue(t, loadFiles(t)["EF.SOD"]),
	} {
		if _, err := lds.ParseMasterList(b); !errors.Is(err, lds.ErrMalformed) && !errors.Is(err, lds.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseCardSecurity(f *testing.F) {
	b, err := os.ReadFile("testdata/cardsecurity.json")
	if err != nil {
		f.Fatal(err)
	}
	var v struct{ Vectors []struct{ Bytes string } }
	if err := json.Unmarshal(b, &v); err != nil {
		f.Fatal(err)
	}
	for _, v := range v.Vectors {
		f.Add(unhex(f, v.Bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := lds.ParseCardSecurity(b)
		typed(t, err)
	})
}

func FuzzParseMasterList(f *testing.F) {
	empty, err := asn1.Marshal(0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(masterList(f, tlv.Encode(0x30, empty, tlv.Encode(0x31, tlv.Encode(0x30)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := lds.ParseMasterList(b)
		typed(t, err)
	})
}
