package lds_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// vectors are worked examples of ICAO Doc 9303; each names its source.
type vector struct {
	Kind, Name, File, Bytes string
	Input                   string `json:"input_text"`
	CheckDigit              string `json:"check_digit_text"`
	Format                  string
	Lines                   []string          `json:"lines_text"`
	Fields                  map[string]string `json:"fields_text"`
	Content                 map[string]string `json:"content_text"`
	Information             string            `json:"mrz_information_text"`
	Composite               string            `json:"composite_computed_text"`
	NameField               string            `json:"name_field_text"`
	Primary                 string            `json:"primary_text"`
	Secondary               string            `json:"secondary_text"`
	Truncated               bool              `json:"possibly_truncated"`
	HeaderBytes             string            `json:"header_bytes"`
	ImageBlock              int               `json:"image_block_length"`
}

func load(t testing.TB, file string) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Vectors []vector }
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Vectors) == 0 {
		t.Fatal("no vectors in " + file)
	}
	return f.Vectors
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func reveal(s interface{ Reveal() []byte }) string { return string(s.Reveal()) }

func TestSecurityInfos(t *testing.T) {
	files := loadFiles(t)
	infos, err := lds.ParseDG14(files["DG14"])
	if err != nil || len(infos.PACE) != 1 || len(infos.ChipAuthentication) != 1 || len(infos.ChipAuthenticationKeys) != 1 ||
		len(infos.ActiveAuthentication) != 1 || len(infos.Raw) != 4 || infos.Others != nil {
		t.Fatalf("%+v, %v", infos, err)
	}
	if _, err := lds.ParseAgreementKey(infos.ChipAuthenticationKeys[0].SPKI); err != nil || infos.ChipAuthenticationKeys[0].KeyID != nil {
		t.Errorf("key of the chip: %v", err)
	}

	seq := func(parts ...[]byte) []byte { return tlv.Encode(0x30, parts...) }
	oid := func(prefix asn1.ObjectIdentifier, arcs ...int) []byte {
		b, err := asn1.Marshal(append(slices.Clone(prefix), arcs...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	integer := func(n byte) []byte { return tlv.Encode(0x02, []byte{n}) }
	numbered := seq(seq(oid(asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 1, 2}), integer(12)),
		tlv.Encode(0x03, append([]byte{0, 4}, pointOnP256()...)))
	brainpool := seq(seq(oid(asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 1, 2}), integer(13)),
		tlv.Encode(0x03, append([]byte{0, 4}, pointOnP256()...)))
	infos, err = lds.ParseCardAccess(tlv.Encode(0x31,
		seq(oid(lds.OIDPACEECDHIM, 4), integer(2)),
		seq(oid(lds.OIDPACEDHGM), seq(oid(lds.OIDAA)), integer(0)),
		seq(oid(lds.OIDCAECDH, 2), integer(1), integer(5)),
		seq(oid(lds.OIDPKECDH), numbered, integer(5)),
		seq(oid(lds.OIDPKECDH), brainpool, integer(6)),
		seq(oid(lds.OIDTA), integer(1), seq(tlv.Encode(0x04, []byte{1, 0x1C}))),
		seq(oid(asn1.ObjectIdentifier{1, 2, 3}), seq())))
	switch {
	case err != nil:
		t.Fatal(err)
	case infos.PACE[0].ParameterID != -1 || infos.PACEDomains[0].ParameterID != 0:
		t.Error("parameter ids")
	case infos.ChipAuthentication[0].KeyID.Int64() != 5 || infos.ChipAuthenticationKeys[0].KeyID.Int64() != 5:
		t.Error("key ids")
	case infos.ChipAuthenticationKeys[1].SPKI == nil:
		t.Error("a key that is on no curve hides the rest")
	case len(infos.TerminalAuthentication) != 1 || len(infos.Others) != 1:
		t.Error("terminal authentication, others")
	}

	for name, b := range map[string][]byte{
		"no set":        seq(),
		"not a list":    tlv.Encode(0x31, integer(1)),
		"no protocol":   tlv.Encode(0x31, seq(integer(1))),
		"no version":    tlv.Encode(0x31, seq(oid(lds.OIDPACEECDHGM, 2))),
		"huge version":  tlv.Encode(0x31, seq(oid(lds.OIDPACEECDHGM, 2), tlv.Encode(0x02, []byte{1, 0, 0}))),
		"negative":      tlv.Encode(0x31, seq(oid(lds.OIDPACEECDHGM, 2), integer(0xFF))),
		"trailing info": tlv.Encode(0x31, seq(oid(lds.OIDPACEECDHGM, 2), integer(2), integer(12), integer(0))),
		"too many":      tlv.Encode(0x31, slices.Repeat(seq(oid(lds.OIDAA)), 65)),
		"trailing byte": append(tlv.Encode(0x31), 0),
	} {
		if _, err := lds.ParseCardAccess(b); !errors.Is(err, lds.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func pointOnP256() []byte {
	p := elliptic.P256().Params()
	return append(p.Gx.FillBytes(make([]byte, 32)), p.Gy.FillBytes(make([]byte, 32))...)
}

func TestPublicKeys(t *testing.T) {
	files := loadFiles(t)
	if key, err := lds.ParseDG15(files["DG15"]); err != nil {
		t.Error(err)
	} else if _, ok := key.(*ecdsa.PublicKey); !ok {
		t.Errorf("DG15 is %T", key)
	}
	if key, err := lds.ParseDG15(files["DG15 RSA"]); err != nil {
		t.Error(err)
	} else if key, ok := key.(*rsa.PublicKey); !ok || key.Size() != 256 {
		t.Errorf("DG15 is %T", key)
	}
	off := slices.Clone(files["DG15"])
	off[len(off)-1] ^= 1
	if _, err := lds.ParseDG15(off); !errors.Is(err, lds.ErrMalformed) {
		t.Errorf("point off the curve: %v", err)
	}
	ed25519 := tlv.Encode(0x6F, tlv.Encode(0x30, tlv.Encode(0x30, []byte{6, 3, 0x2B, 0x65, 0x70}), tlv.Encode(0x03, make([]byte, 33))))
	if _, err := lds.ParseDG15(ed25519); !errors.Is(err, lds.ErrUnsupported) {
		t.Errorf("another algorithm: %v", err)
	}
}

func TestSOD(t *testing.T) {
	files := loadFiles(t)
	sod, err := lds.ParseSOD(files["EF.SOD"])
	if err != nil {
		t.Fatal(err)
	}
	if sod.Version != 0 || sod.Digest != crypto.SHA256 || len(sod.Certificates) != 1 || sod.Signer.Serial.Int64() != 4711 ||
		sod.Signer.Attributes[0] != 0x31 || len(sod.Signer.Signature) == 0 {
		t.Errorf("%+v", sod)
	}
	for _, f := range []lds.File{lds.DG1, lds.DG2, lds.DG14, lds.DG15} {
		if hash := sha256.Sum256(files[f.String()]); !slices.Equal(hash[:], sod.Hashes[f]) {
			t.Errorf("hash of %v", f)
		}
	}
	if len(sod.Hashes) != 4 {
		t.Errorf("%d hashes", len(sod.Hashes))
	}

	// The object itself, in other shapes.
	object := func(parts ...[]byte) []byte { return tlv.Encode(0x30, parts...) }
	sha := object([]byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1})
	hash := func(n byte) []byte { return object([]byte{2, 1, n}, tlv.Encode(0x04, make([]byte, 32))) }
	versions := object(tlv.Encode(0x13, []byte("0108")), tlv.Encode(0x13, []byte("040000")))
	version := func(n byte) []byte { return []byte{2, 1, n} }
	for name, c := range map[string]struct {
		content []byte
		err     error
	}{
		"version 1":              {object(version(1), sha, object(hash(1)), versions), nil},
		"no hashes":              {object(version(0), sha, object()), nil},
		"version 1, no versions": {object(version(1), sha, object(hash(1))), lds.ErrMalformed},
		"version 0 and versions": {object(version(0), sha, object(hash(1)), versions), lds.ErrMalformed},
		"version 2":              {object(version(2), sha, object(hash(1))), lds.ErrUnsupported},
		"group twice":            {object(version(0), sha, object(hash(1), hash(1))), lds.ErrMalformed},
		"group 0":                {object(version(0), sha, object(hash(0))), lds.ErrMalformed},
		"group 17":               {object(version(0), sha, object(hash(17))), lds.ErrMalformed},
		"short hash":             {object(version(0), sha, object(object([]byte{2, 1, 1}, tlv.Encode(0x04, make([]byte, 31))))), lds.ErrMalformed},
		"MD5":                    {object(version(0), object([]byte{6, 8, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 2, 5}), object(hash(1))), lds.ErrUnsupported},
		"empty":                  {nil, lds.ErrMalformed},
	} {
		b, err := lds.ParseSOD(withContent(t, files["EF.SOD"], c.content))
		if !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "version 1" && (b.Version != 1 || b.LDSVersion != "0108" || b.UnicodeVersion != "040000") {
			t.Errorf("%s: %+v", name, b)
		}
	}
	for n := range files["EF.SOD"] {
		if _, err := lds.ParseSOD(files["EF.SOD"][:n]); !errors.Is(err, lds.ErrMalformed) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
}

// withContent puts another LDS security object into an SOD.
func withContent(t *testing.T, sod, content []byte) []byte {
	t.Helper()
	children := func(n tlv.Node) []tlv.Node {
		nodes, err := n.Children()
		if err != nil {
			t.Fatal(err)
		}
		return nodes
	}
	outer, err := tlv.ParseOne(sod, 0x77)
	if err != nil {
		t.Fatal(err)
	}
	info := children(children(outer)[0])
	data := children(children(info[1])[0])
	data[2].Raw = tlv.Encode(0x30, children(data[2])[0].Raw, tlv.Encode(0xA0, tlv.Encode(0x04, content)))
	var body []byte
	for _, n := range data {
		body = append(body, n.Raw...)
	}
	return tlv.Encode(0x77, tlv.Encode(0x30, info[0].Raw, tlv.Encode(0xA0, tlv.Encode(0x30, body))))
}

// Personal data stays inside, whatever is done to the types that hold it.
func TestNeverPrints(t *testing.T) {
	m, err := lds.ParseMRZ(specimen)
	if err != nil {
		t.Fatal(err)
	}
	doc := lds.Document{Files: map[lds.File][]byte{lds.DG1: []byte(specimen)}, Access: "PACE"}
	face := lds.Face{Image: []byte("ERIKSSON"), MIME: "image/jpeg"}
	type record struct {
		M lds.MRZ
		D *lds.Document
		m lds.MRZ
	}
	for _, v := range []any{m, &m, doc, &doc, face, []lds.Face{face}, m.Birth, record{m, &doc, m}, map[string]lds.MRZ{"k": m}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			out := fmt.Sprintf(verb, v)
			for _, canary := range []string{"ERIKSSON", "L898902C3", "740812", fmt.Sprintf("%x", "ERIKSSON"), "69 82 73"} {
				if strings.Contains(out, canary) {
					t.Errorf("%s of %T prints %s", verb, v, canary)
				}
			}
		}
		if _, err := json.Marshal(v); !errors.Is(err, secret.ErrMarshal) && fmt.Sprintf("%T", v) != "lds.Date" {
			t.Errorf("%T marshals: %v", v, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		if strings.Contains(log.String(), "ERIKSSON") || strings.Contains(log.String(), "RVJJS1NTT0") {
			t.Errorf("log of %T: %s", v, log.String())
		}
	}
}
