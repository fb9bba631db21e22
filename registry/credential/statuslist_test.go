package credential_test

import (
	"bytes"
	"compress/zlib"
	"crypto/ecdsa"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
)

// The vectors of the draft, appendix C, in full, and its two short examples.
func TestStatusListVectors(t *testing.T) {
	var v struct {
		Lists []struct {
			Bits   int
			List   string `json:"lst"`
			Status map[string]uint8
		}
	}
	b, err := os.ReadFile("testdata/status-list.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil || len(v.Lists) != 4 {
		t.Fatal(len(v.Lists), err)
	}
	for _, list := range v.Lists {
		o := object(t, `{"bits":`+strconv.Itoa(list.Bits)+`,"lst":"`+list.List+`"}`)
		l, err := credential.ParseStatusList(o, 1<<20)
		if err != nil || l.Len() != 1<<20 {
			t.Fatal(list.Bits, l.Len(), err)
		}
		for i := range l.Len() {
			if got, err := l.Get(i); err != nil || got != list.Status[strconv.FormatUint(i, 10)] {
				t.Fatalf("%d bits, status %d: %d, %v", list.Bits, i, got, err)
			}
		}
	}
	for _, short := range []struct {
		object string
		want   string
	}{
		{`{"bits":1,"lst":"eNrbuRgAAhcBXQ"}`, "1001110111000101"},
		{`{"bits":2,"lst":"eNo76fITAAPfAgc"}`, "120301011233"},
	} {
		l, err := credential.ParseStatusList(object(t, short.object), 4)
		if err != nil || l.Len() != uint64(len(short.want)) {
			t.Fatal(l.Len(), err)
		}
		for i, want := range short.want {
			if got, err := l.Get(uint64(i)); err != nil || got != uint8(want-'0') {
				t.Errorf("%s: status %d is %d, %v", short.object, i, got, err)
			}
		}
	}
}

func object(t testing.TB, s string) credential.Object {
	t.Helper()
	o, err := credential.ParseObject([]byte(s), 8)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (w *world) list(t testing.TB, revoked ...uint64) credential.StatusToken {
	t.Helper()
	l := credential.NewStatusList(1 << 16)
	for _, i := range revoked {
		if err := l.Revoke(i); err != nil {
			t.Fatal(err)
		}
	}
	return credential.StatusToken{URI: listURI, IssuedAt: now, Expires: now.Add(24 * time.Hour), TTL: time.Hour, List: l}
}

func (w *world) wantList() credential.ExpectStatusList {
	return credential.ExpectStatusList{Authority: w.authority, URI: listURI, MaxBytes: 1 << 13, Now: now}
}

func TestRevocation(t *testing.T) {
	w := newWorld(t)
	index := w.content.Status.Index
	for _, test := range []struct {
		revoked []uint64
		want    error
	}{{nil, nil}, {[]uint64{index - 1, index + 1}, nil}, {[]uint64{index}, credential.ErrStatus}} {
		token, err := w.issuer.SignStatusList(w.list(t, test.revoked...))
		if err != nil {
			t.Fatal(err)
		}
		l, err := credential.VerifyStatusList(token, w.wantList())
		if err != nil {
			t.Fatal(err)
		}
		got := l.Check(w.issued.Status(), now)
		if test.want == nil && got != nil {
			t.Error(got)
		} else if test.want != nil {
			wants(t, got, credential.ErrStatus)
		}
		wants(t, l.Check(credential.StatusRef{URI: listURI, Index: 1 << 16}, now), credential.ErrStatusList)
		wants(t, l.Check(credential.StatusRef{URI: listURI + "x", Index: 1}, now), credential.ErrStatusList)
		wants(t, l.Check(w.issued.Status(), now.Add(24*time.Hour)), credential.ErrExpired)
	}
}

// Status of more bits: whatever is not 0 is not valid.
func TestForeignStatusIsNotValid(t *testing.T) {
	w := newWorld(t)
	w.content.Status.Index = 1
	payload := `{"sub":"` + listURI + `","iat":` + unix(now) + `,"exp":` + unix(now.Add(time.Hour)) + `,"ttl":60,"status_list":{"bits":2,"lst":"eNo76fITAAPfAgc"}}`
	token := signJWS(t, w.issuer.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "statuslist+jwt", "x5c": x5c(w.issuer.Chain)}, payload)
	l, err := credential.VerifyStatusList(token, w.wantList())
	if err != nil {
		t.Fatal(err)
	}
	wants(t, l.Check(w.content.Status, now), credential.ErrStatus) // 2: suspended
	if err := l.Check(credential.StatusRef{URI: listURI, Index: 2}, now); err != nil {
		t.Error(err)
	}
}

func TestStatusListAttacks(t *testing.T) {
	w := newWorld(t)
	good, err := w.issuer.SignStatusList(w.list(t))
	if err != nil {
		t.Fatal(err)
	}
	resign := func(payload string) string {
		return signJWS(t, w.issuer.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "statuslist+jwt", "x5c": x5c(w.issuer.Chain)}, payload)
	}
	bomb := func(bytesAfter string, size int) string {
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		z.Write(make([]byte, size))
		z.Close()
		b.WriteString(bytesAfter)
		return b64.EncodeToString(b.Bytes())
	}
	payload := payloadOf(t, good)
	lst := payload[strings.Index(payload, `"lst":"`)+7 : len(payload)-3]
	for name, test := range map[string]struct {
		token  string
		expect func(*credential.ExpectStatusList)
		want   credential.Refusal
	}{
		"of another issuer": {func() string {
			foreign := credentialtest.NewCA(t, "foreign", now).Issuer(t, issuerID)
			s, _ := foreign.SignStatusList(w.list(t))
			return s
		}(), nil, credential.ErrChain},
		"of another issuer of the CA": {func() string {
			s, _ := w.ca.Issuer(t, "https://other.example").SignStatusList(w.list(t))
			return s
		}(), nil, credential.ErrIssuer},
		"another list":    {good, func(e *credential.ExpectStatusList) { e.URI += "2" }, credential.ErrStatusList},
		"expired":         {good, func(e *credential.ExpectStatusList) { e.Now = now.Add(24 * time.Hour) }, credential.ErrExpired},
		"of the future":   {good, func(e *credential.ExpectStatusList) { e.Now = now.Add(-time.Hour) }, credential.ErrTime},
		"a credential":    {func() string { s, _, _, _ := credential.Split(w.compact); return s }(), nil, credential.ErrType},
		"valid for years": {resign(replace(t, payload, `"exp":`+unix(now.Add(24*time.Hour)), `"exp":9999999999`)), func(e *credential.ExpectStatusList) { e.Now = now.Add(25 * time.Hour) }, credential.ErrExpired},
		"3 bits":          {resign(replace(t, payload, `"bits":1`, `"bits":3`)), nil, credential.ErrStatusList},
		"bits as text":    {resign(replace(t, payload, `"bits":1`, `"bits":"1"`)), nil, credential.ErrStatusList},
		"no ttl":          {resign(replace(t, payload, `"ttl"`, `"tt"`)), nil, credential.ErrStatusList},
		"a bomb":          {resign(replace(t, payload, lst, bomb("", 64<<20))), nil, credential.ErrSize},
		"one byte more":   {resign(replace(t, payload, lst, bomb("", 1<<13+1))), nil, credential.ErrSize},
		"bytes after":     {resign(replace(t, payload, lst, bomb("x", 10))), nil, credential.ErrStatusList},
		"cut":             {resign(replace(t, payload, lst, lst[:len(lst)-8])), nil, credential.ErrStatusList},
		"no zlib":         {resign(replace(t, payload, lst, "AAAA")), nil, credential.ErrStatusList},
		"long":            {strings.Repeat("A", 1<<17), nil, credential.ErrSize},
	} {
		t.Run(name, func(t *testing.T) {
			e := w.wantList()
			if test.expect != nil {
				test.expect(&e)
			}
			l, err := credential.VerifyStatusList(test.token, e)
			if l.Valid() {
				t.Fatal("accepted")
			}
			wants(t, err, test.want)
		})
	}
	for i := range len(good) {
		bad := []byte(good)
		bad[i] ^= 1
		if l, err := credential.VerifyStatusList(string(bad), w.wantList()); err == nil || l.Valid() {
			t.Fatalf("byte %d: accepted", i)
		}
	}
}

// A list says how long it may be kept, within what we allow.
func TestStatusListLifetimeIsClamped(t *testing.T) {
	w := newWorld(t)
	for ttl, want := range map[time.Duration]time.Duration{time.Second: time.Minute, 30 * time.Minute: 30 * time.Minute, 48 * time.Hour: time.Hour} {
		token := w.list(t)
		token.TTL = ttl
		s, err := w.issuer.SignStatusList(token)
		if err != nil {
			t.Fatal(err)
		}
		l, err := credential.VerifyStatusList(s, w.wantList())
		if err != nil || !l.Refresh().Equal(now.Add(want)) || !l.Expires().Equal(now.Add(24*time.Hour)) {
			t.Error(ttl, l.Refresh(), err)
		}
	}
}
