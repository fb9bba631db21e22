package credential

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
)

// Query is the part of DCQL (OpenID4VP 1.0, 6) that is supported: some credentials,
// all of them wanted, each by its type and the names of flat claims.
type Query struct{ Credentials []CredentialQuery }

// CredentialQuery asks for one presentation.
type CredentialQuery struct {
	ID          string   // under which the presentation comes back
	Types       []string // vct: one of them
	Authorities [][]byte // key ids of issuing CAs: one of them; empty for any
	Claims      []string // all of them or nothing; empty for the pseudonym alone
}

// MaxQueries is the largest number of credentials in one request.
const MaxQueries = 4

var queryID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// ParseQuery reads a dcql_query. What would change its meaning if it were ignored
// is refused: claim_sets, credential_sets, values, several presentations of one
// credential, one without the holder's key, nested paths. Other unknown members
// are ignored. Errors wrap [ErrQuery].
func ParseQuery(o Object) (Query, error) {
	list, _ := o.List("credentials")
	if len(list) == 0 || len(list) > MaxQueries {
		return Query{}, refuse(ErrQuery, "%d credentials", len(list))
	}
	if _, there := o["credential_sets"]; there {
		return Query{}, refuse(ErrQuery, "credential_sets")
	}
	var q Query
	ids := map[string]bool{}
	for i, v := range list {
		c, _ := v.(Object)
		one, err := parseCredentialQuery(c)
		if err != nil {
			return Query{}, fmt.Errorf("%w: credential %d: %w", ErrQuery, i, err)
		}
		if ids[one.ID] {
			return Query{}, refuse(ErrQuery, "two credentials of one id")
		}
		ids[one.ID] = true
		q.Credentials = append(q.Credentials, one)
	}
	return q, nil
}

func parseCredentialQuery(o Object) (q CredentialQuery, err error) {
	if q.ID, _ = o.Text("id"); !queryID.MatchString(q.ID) {
		return q, fmt.Errorf("id")
	}
	if format, _ := o.Text("format"); format != credentialType {
		return q, fmt.Errorf("format is not %s", credentialType)
	}
	for name, harmless := range map[string]any{"multiple": false, "require_cryptographic_holder_binding": true} {
		if v, there := o[name]; there && v != harmless {
			return q, fmt.Errorf("%s", name)
		}
	}
	if _, there := o["claim_sets"]; there {
		return q, fmt.Errorf("claim_sets")
	}
	meta, _ := o.Object("meta")
	if q.Types, _ = meta.Texts("vct_values"); len(q.Types) == 0 || len(q.Types) > 8 {
		return q, fmt.Errorf("meta.vct_values")
	}
	if q.Authorities, err = parseAuthorities(o); err != nil {
		return q, err
	}
	claims, ok := o.List("claims")
	if _, there := o["claims"]; there && (!ok || len(claims) == 0 || len(claims) > MaxDisclosures) {
		return q, fmt.Errorf("claims")
	}
	for _, v := range claims {
		c, _ := v.(Object)
		path, ok := c.Texts("path")
		if !ok || len(path) != 1 || path[0] == "" || slices.Contains(q.Claims, path[0]) {
			return q, fmt.Errorf("a path of other than one name, or twice")
		}
		if _, there := c["values"]; there {
			return q, fmt.Errorf("values")
		}
		q.Claims = append(q.Claims, path[0])
	}
	slices.Sort(q.Claims)
	return q, nil
}

// parseAuthorities reads trusted_authorities of type aki (OpenID4VP 1.0, 6.1.1.1).
func parseAuthorities(o Object) (ids [][]byte, err error) {
	list, ok := o.List("trusted_authorities")
	if _, there := o["trusted_authorities"]; there && (!ok || len(list) == 0 || len(list) > 8) {
		return nil, fmt.Errorf("trusted_authorities")
	}
	for _, v := range list {
		a, _ := v.(Object)
		values, ok := a.Texts("values")
		if t, _ := a.Text("type"); t != "aki" || !ok || len(values) == 0 {
			return nil, fmt.Errorf("a trusted authority of another type than aki")
		}
		for _, text := range values {
			id, err := decode(text)
			if err != nil || len(id) == 0 {
				return nil, fmt.Errorf("aki: %w", ErrForm)
			}
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Matches reports whether a credential can answer the query: its type, its CA, and
// all claims that are asked for.
func (q CredentialQuery) Matches(i Issued) bool {
	if i.c == nil || !slices.Contains(q.Types, i.c.vct) {
		return false
	}
	for _, name := range q.Claims {
		if _, there := i.c.claims[name]; !there {
			return false
		}
	}
	return len(q.Authorities) == 0 || slices.ContainsFunc(q.Authorities, func(id []byte) bool {
		return slices.ContainsFunc(i.c.authorities, func(own []byte) bool { return bytes.Equal(own, id) })
	})
}

// The wire form of a query, as a site sends it.
type (
	queryWire struct {
		Credentials []credentialQueryWire `json:"credentials"`
	}
	credentialQueryWire struct {
		ID          string          `json:"id"`
		Format      string          `json:"format"`
		Meta        metaWire        `json:"meta"`
		Authorities []authorityWire `json:"trusted_authorities,omitzero"`
		Claims      []claimWire     `json:"claims,omitzero"`
	}
	metaWire struct {
		Types []string `json:"vct_values"`
	}
	authorityWire struct {
		Type   string   `json:"type"`
		Values []string `json:"values"`
	}
	claimWire struct {
		Path []string `json:"path"`
	}
)

func (q Query) wire() queryWire {
	var w queryWire
	for _, c := range q.Credentials {
		one := credentialQueryWire{ID: c.ID, Format: credentialType, Meta: metaWire{c.Types}}
		if len(c.Authorities) > 0 {
			a := authorityWire{Type: "aki"}
			for _, id := range c.Authorities {
				a.Values = append(a.Values, b64.EncodeToString(id))
			}
			one.Authorities = []authorityWire{a}
		}
		for _, name := range c.Claims {
			one.Claims = append(one.Claims, claimWire{[]string{name}})
		}
		w.Credentials = append(w.Credentials, one)
	}
	return w
}
