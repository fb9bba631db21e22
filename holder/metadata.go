package holder

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"enrollkiosk/registry/credential"
)

// metadata is what the issuer says of itself (OpenID4VCI 1.0, 12.2).
type metadata struct {
	configuration string // id of the one for the type that is collected
	batch         int    // credentials of one request
	credential    string // addresses
	nonce         string
	offer         string
	token         string
}

const metadataDepth = 8

// metadata reads both documents. What the authority publishes must be what they say.
func (h *Helper) metadata(ctx context.Context, vct string) (m metadata, err error) {
	get := func(name string) ([]byte, error) {
		a, err := h.issuer(ctx, exchange{method: http.MethodGet, uri: wellKnown(h.Authority.Issuer, name), accept: jsonType, limit: maxMetadata})
		return a.body, err
	}
	b, err := get("openid-credential-issuer")
	if err != nil {
		return m, fmt.Errorf("issuer metadata: %w", err)
	}
	if m, err = parseIssuer(b, h.Authority, vct); err != nil {
		return m, fmt.Errorf("issuer metadata: %w", err)
	}
	if b, err = get("oauth-authorization-server"); err != nil {
		return m, fmt.Errorf("authorization server metadata: %w", err)
	}
	if m.token, err = parseServer(b, h.Authority.Issuer); err != nil {
		return m, fmt.Errorf("authorization server metadata: %w", err)
	}
	return m, nil
}

// wellKnown stands between host and path (OpenID4VCI 1.0, 12.2.2; RFC 8414 3).
func wellKnown(issuer, name string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return issuer
	}
	u.Path = "/.well-known/" + name + strings.TrimSuffix(u.Path, "/")
	return u.String()
}

func parseIssuer(b []byte, a Authority, vct string) (m metadata, err error) {
	o, err := credential.ParseObject(b, metadataDepth)
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if id, _ := o.Text("credential_issuer"); id != a.Issuer {
		return m, fmt.Errorf("another issuer: %w", ErrMetadata)
	}
	lists, ok := o.Texts("status_lists") // ours; an issuer without it is checked by what it issues
	if _, there := o["status_lists"]; there && (!ok || !slices.Equal(sorted(lists), sorted(a.StatusLists))) {
		return m, fmt.Errorf("other status lists than published: %w", ErrMetadata)
	}
	for name, to := range map[string]*string{"credential_endpoint": &m.credential, "nonce_endpoint": &m.nonce, "offer_request_endpoint": &m.offer} {
		if *to, err = endpoint(o, name, a.Issuer); err != nil {
			return m, err
		}
	}
	m.batch = 1
	if batch, there := o.Object("batch_credential_issuance"); there {
		size, ok := batch.Whole("batch_size")
		if !ok || size < 1 {
			return m, fmt.Errorf("batch_size: %w", ErrMetadata)
		}
		m.batch = int(min(size, credential.MaxBatch))
	}
	all, _ := o.Object("credential_configurations_supported")
	for id := range all {
		c, _ := all.Object(id)
		format, _ := c.Text("format")
		binding, _ := c.Texts("cryptographic_binding_methods_supported")
		kinds, _ := c.Object("proof_types_supported")
		_, jwt := kinds.Object("jwt")
		if got, _ := c.Text("vct"); got == vct && format == "dc+sd-jwt" && slices.Contains(binding, "jwk") && jwt {
			if m.configuration != "" {
				return m, fmt.Errorf("two configurations for one type: %w", ErrMetadata)
			}
			m.configuration = id
		}
	}
	if m.configuration == "" {
		return m, fmt.Errorf("no configuration for the type: %w", ErrMetadata)
	}
	return m, nil
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func parseServer(b []byte, issuer string) (token string, err error) {
	o, err := credential.ParseObject(b, metadataDepth)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if id, _ := o.Text("issuer"); id != issuer {
		return "", fmt.Errorf("another issuer: %w", ErrMetadata)
	}
	return endpoint(o, "token_endpoint", issuer)
}

// endpoint is an address on the issuer's own host and port.
func endpoint(o credential.Object, name, issuer string) (string, error) {
	text, _ := o.Text(name)
	u, err := plainHTTPS(text)
	own, err2 := url.Parse(issuer)
	if err != nil || err2 != nil || u.Host != own.Host || u.Fragment != "" {
		return "", fmt.Errorf("%s is not the issuer's: %w", name, ErrMetadata)
	}
	return u.String(), nil
}

// offer is what is used of a credential offer (OpenID4VCI 1.0, 4.1.1).
type offer struct {
	code  string // pre-authorized
	claim bool   // the code on the receipt is wanted beside it
}

func parseOffer(b []byte, issuer, configuration string) (offer, error) {
	o, err := credential.ParseObject(b, metadataDepth)
	if err != nil {
		return offer{}, fmt.Errorf("offer: %w: %w", ErrAnswer, err)
	}
	if id, _ := o.Text("credential_issuer"); id != issuer {
		return offer{}, fmt.Errorf("offer of another issuer: %w", ErrMetadata)
	}
	if ids, _ := o.Texts("credential_configuration_ids"); !slices.Contains(ids, configuration) {
		return offer{}, fmt.Errorf("offer without %s: %w", configuration, ErrNotIssued)
	}
	grants, _ := o.Object("grants")
	grant, _ := grants.Object(grantType)
	code, _ := grant.Text("pre-authorized_code")
	if code == "" || len(code) > 512 {
		return offer{}, fmt.Errorf("offer without a code: %w", ErrAnswer)
	}
	_, claim := grant["tx_code"]
	return offer{code, claim}, nil
}

func parseToken(b []byte) (string, error) {
	o, err := credential.ParseObject(b, metadataDepth)
	if err != nil {
		return "", fmt.Errorf("token: %w: %w", ErrAnswer, err)
	}
	access, _ := o.Text("access_token")
	if kind, _ := o.Text("token_type"); !strings.EqualFold(kind, "Bearer") || !isBearer(access) {
		return "", fmt.Errorf("token: %w", ErrAnswer)
	}
	return access, nil
}

// isBearer is RFC 6750 2.1, without what no token of today has.
func isBearer(s string) bool {
	return s != "" && len(s) <= 4096 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=") == ""
}

func parseBatch(b []byte) (compacts []string, err error) {
	o, err := credential.ParseObject(b, metadataDepth)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w: %w", ErrAnswer, err)
	}
	list, _ := o.List("credentials")
	for _, v := range list {
		one, _ := v.(credential.Object)
		text, ok := one.Text("credential")
		if !ok {
			return nil, fmt.Errorf("credentials: %w", ErrAnswer)
		}
		compacts = append(compacts, text)
	}
	return compacts, nil
}
