package credential_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"testing"

	"enrollkiosk/registry/credential"
)

// Whatever the strict parser takes, the standard library takes as well and reads
// the same names.
func FuzzParseObject(f *testing.F) {
	f.Add([]byte(`{"a":[1,"\ud83d\ude00",{"b":null}],"c":-0.5e+3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := credential.ParseObject(b, 4)
		if err != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var theirs map[string]any
		if err := d.Decode(&theirs); err != nil || !sameJSON(o, theirs) {
			t.Fatalf("%q: %v, theirs %v, %v", b, o, theirs, err)
		}
	})
}

func sameJSON(ours, theirs any) bool {
	switch ours := ours.(type) {
	case credential.Object:
		m, ok := theirs.(map[string]any)
		if !ok || len(m) != len(ours) {
			return false
		}
		for name, v := range ours {
			if w, there := m[name]; !there || !sameJSON(v, w) {
				return false
			}
		}
		return true
	case []any:
		l, ok := theirs.([]any)
		if !ok || len(l) != len(ours) {
			return false
		}
		for i := range ours {
			if !sameJSON(ours[i], l[i]) {
				return false
			}
		}
		return true
	case credential.Number:
		n, ok := theirs.(json.Number)
		return ok && string(n) == string(ours)
	}
	return ours == theirs
}

// Nothing but the one presentation, as it was made, is accepted: an attacker has
// neither key.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	good := w.present(f)
	f.Add(good)
	f.Add(w.compact)
	f.Add("a.b.c~d~e.f.g")
	f.Fuzz(func(t *testing.T, p string) {
		c, err := credential.Verify(p, w.expect)
		if (err == nil) != c.Valid() || c.Valid() && p != good {
			t.Fatalf("%q: %v", p, err)
		}
		if i, err := credential.Accept(p, w.terms()); err == nil && !maps.Equal(i.Claims(), ages) {
			t.Fatalf("%q accepted: %v", p, i.Claims())
		}
	})
}

// A disclosure that is read is three elements of JSON to anyone.
func FuzzParseDisclosure(f *testing.F) {
	f.Add("WyJlbHVWNU9nM2dTTklJOEVZbnN4QV9BIiwgImZhbWlseV9uYW1lIiwgIkRvZSJd")
	f.Add(b64.EncodeToString([]byte(`["s","address",{"a":1}]`)))
	f.Fuzz(func(t *testing.T, d string) {
		name, value, err := credential.ParseDisclosure(d)
		if err != nil {
			return
		}
		raw, err := b64.Strict().DecodeString(d)
		if err != nil || b64.EncodeToString(raw) != d {
			t.Fatalf("%q has another spelling", d)
		}
		var list []any
		if err := json.Unmarshal(raw, &list); err != nil || len(list) != 3 || list[1] != name || list[2] != value {
			t.Fatalf("%q: %v, %v", raw, list, err)
		}
	})
}

// A query that is read, written and read again is the same query.
func FuzzParseQuery(f *testing.F) {
	f.Add([]byte(`{"credentials":[{"id":"person","format":"dc+sd-jwt","meta":{"vct_values":["v"]},"trusted_authorities":[{"type":"aki","values":["AQI"]}],"claims":[{"path":["a"]}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := credential.ParseObject(b, 8)
		if err != nil {
			return
		}
		q, err := credential.ParseQuery(o)
		if err != nil {
			return
		}
		if len(q.Credentials) == 0 || len(q.Credentials) > credential.MaxQueries {
			t.Fatalf("%q: %v", b, q)
		}
		for _, c := range q.Credentials {
			if len(c.Types) == 0 || c.ID == "" {
				t.Fatalf("%q: %v", b, c)
			}
		}
		again, err := credential.ParseQuery(object(t, string(credential.QueryJSON(q))))
		if err != nil || !bytes.Equal(credential.QueryJSON(q), credential.QueryJSON(again)) {
			t.Fatalf("%q: %v", credential.QueryJSON(q), err)
		}
	})
}

// A list inflates to no more than is allowed, and no index reaches beyond it.
func FuzzParseStatusList(f *testing.F) {
	f.Add(uint8(1), "eNrbuRgAAhcBXQ", uint64(15))
	f.Add(uint8(2), "eNo76fITAAPfAgc", uint64(12))
	f.Add(uint8(3), "AAAA", uint64(0))
	f.Fuzz(func(t *testing.T, bits uint8, lst string, index uint64) {
		l, err := credential.ParseStatusList(credential.Object{"bits": credential.Number(string('0' + rune(bits%10))), "lst": lst}, 1024)
		if err != nil {
			return
		}
		if l.Len() > 8*1024 {
			t.Fatal(l.Len())
		}
		if v, err := l.Get(index); (err == nil) != (index < l.Len()) || uint64(v) >= 1<<(bits%10) {
			t.Fatal(index, l.Len(), v, err)
		}
	})
}

// A response is read or refused, whatever comes.
func FuzzOpenResponse(f *testing.F) {
	s := newAsking(f)
	r, err := credential.VerifyRequest(s.sign(f), s.expect)
	if err != nil {
		f.Fatal(err)
	}
	good, err := r.Seal(map[string]string{"person": "p"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("a.b.c.d.e")
	f.Fuzz(func(t *testing.T, jwe string) {
		if r, err := credential.OpenResponse(jwe, s.ephemeral); err == nil && r.Presentations["person"] != "p" {
			t.Fatalf("%q: %v", jwe, r)
		}
	})
}
