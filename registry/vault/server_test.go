package vault_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

func TestServer(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	keys, err := vault.ReadPublic(w.VaultDir())
	if err != nil {
		t.Fatal(err)
	}
	link, err := keyfile.TLS(w.RegistryDir(), "vault-client")
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + l.Addr().String() + api.PathOpen
	as := func(certificates ...tls.Certificate) *http.Client {
		tr := &http.Transport{TLSClientConfig: registrytest.TLS(t, keys.TLSRoot, certificates...)}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr, Timeout: 10 * time.Second}
	}
	s := w.Kiosk(t, "KIOSK-0001").Make(t, registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{}), nil)})
	body, err := json.Marshal(api.OpenRequest{Record: s.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	post := func(c *http.Client, media string, body []byte) (int, []byte) {
		t.Helper()
		a, err := c.Post(url, media, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		b, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return a.StatusCode, b
	}

	// Only the registry's key may ask; any other ends in the handshake.
	k := w.Kiosk(t, "KIOSK-0002")
	server, err := keyfile.TLS(w.RegistryDir(), "server")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*http.Client{"nobody": as(), "a kiosk": as(k.TLS), "another key of the registry": as(server)} {
		if a, err := c.Post(url, api.MediaJSON, bytes.NewReader(body)); err == nil {
			a.Body.Close()
			t.Errorf("%s got %d", name, a.StatusCode)
		}
	}
	c := as(link)
	for _, bad := range []struct {
		media, body string
		status      int
		code        string
	}{
		{api.MediaText, "{}", http.StatusUnsupportedMediaType, api.CodeMedia},
		{api.MediaJSON, "", http.StatusBadRequest, api.CodeBadRequest},
		{api.MediaJSON, `{"record":""}`, http.StatusBadRequest, api.CodeBadRequest},
		{api.MediaJSON, `{"record":"AAAA"}`, http.StatusBadRequest, api.CodeBadRequest},
		{api.MediaJSON, `{"record":"AAAA","also":1}`, http.StatusBadRequest, api.CodeBadRequest},
		{api.MediaJSON, strings.Repeat(" ", api.MaxBody+1), http.StatusRequestEntityTooLarge, api.CodeTooLarge},
	} {
		status, b := post(c, bad.media, []byte(bad.body))
		var p api.Problem
		if err := json.Unmarshal(b, &p); err != nil || status != bad.status || p.Code != bad.code {
			t.Errorf("%.30q: %d %s, want %d %s", bad.body, status, b, bad.status, bad.code)
		}
	}
	status, b := post(c, api.MediaJSON, body)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, b)
	}
	result, err := api.Decode[api.OpenResult](bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := receipt.VerifyVerdict([]byte(result.Verdict), nil, w.Policy.Policy().VerdictKeys.Vault, s.ID()); err != nil {
		t.Error(err)
	}
}
