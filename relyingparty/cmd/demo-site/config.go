package main

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"enrollkiosk/registry/credential"
	"enrollkiosk/relyingparty"
)

// config is the file, with what it names loaded.
type config struct {
	name, url, listen, data string
	tls                     tls.Certificate
	claims                  []string
	legalName               bool
	party                   relyingparty.Config
}

type file struct {
	Site struct {
		Name       string   `toml:"name"`
		URL        string   `toml:"url"`
		Listen     string   `toml:"listen"`
		TLS        string   `toml:"tls"`
		Registered string   `toml:"registered"`
		Data       string   `toml:"data"`
		Claims     []string `toml:"claims"`
		LegalName  bool     `toml:"legal_name"`
	} `toml:"site"`
	Issuer struct {
		ID          string   `toml:"id"`
		Roots       []string `toml:"roots"`
		TLSRoots    []string `toml:"tls_roots"`
		StatusLists []string `toml:"status_lists"`
	} `toml:"issuer"`
}

// load reads the configuration; every error is an errUsage.
func load(name string) (config, error) {
	var f file
	if err := strict(name, &f); err != nil {
		return config{}, fmt.Errorf("%w: %w", errUsage, err)
	}
	c, err := f.load(filepath.Dir(name))
	if err != nil {
		return config{}, fmt.Errorf("%w: %s: %w", errUsage, name, err)
	}
	return c, nil
}

// strict takes no unknown key, and names the line of a mistake.
func strict(name string, v any) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	err = toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(v)
	var missing *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &missing) && len(missing.Errors) > 0:
		line, _ := missing.Errors[0].Position()
		return fmt.Errorf("%s:%d: unknown key %q", name, line, strings.Join(missing.Errors[0].Key(), "."))
	case errors.As(err, &decode):
		line, _ := decode.Position()
		return fmt.Errorf("%s:%d: %w", name, line, err)
	}
	return err
}

func (f file) load(dir string) (config, error) {
	c := config{name: f.Site.Name, url: f.Site.URL, listen: f.Site.Listen, claims: f.Site.Claims, legalName: f.Site.LegalName}
	for key, value := range map[string]string{
		"site.name": c.name, "site.url": c.url, "site.listen": c.listen, "site.tls": f.Site.TLS, "site.registered": f.Site.Registered, "site.data": f.Site.Data, "issuer.id": f.Issuer.ID,
	} {
		if value == "" {
			return config{}, fmt.Errorf("%s is missing", key)
		}
	}
	if u, err := url.Parse(c.url); err != nil || u.Scheme != "https" || u.Path != "" {
		return config{}, fmt.Errorf("site.url is no https address without a path")
	}
	path := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(dir, name)
	}
	c.data = path(f.Site.Data)
	var err error
	if c.tls, err = pair(path(f.Site.TLS)); err != nil {
		return config{}, fmt.Errorf("site.tls: %w", err)
	}
	registered, err := pair(path(f.Site.Registered))
	if err != nil {
		return config{}, fmt.Errorf("site.registered: %w", err)
	}
	c.party = relyingparty.Config{URL: c.url + "/signin", StatusLists: f.Issuer.StatusLists, Client: http.DefaultClient}
	c.party.Site.Key, _ = registered.PrivateKey.(crypto.Signer) // relyingparty.New refuses none
	for _, der := range registered.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return config{}, fmt.Errorf("site.registered: %w", err)
		}
		c.party.Site.Chain = append(c.party.Site.Chain, cert)
	}
	c.party.Issuer = credential.Authority{Issuer: f.Issuer.ID}
	if c.party.Issuer.Roots, err = pool(f.Issuer.Roots, path); err != nil {
		return config{}, fmt.Errorf("issuer.roots: %w", err)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	if len(f.Issuer.TLSRoots) > 0 {
		if transport.TLSClientConfig.RootCAs, err = pool(f.Issuer.TLSRoots, path); err != nil {
			return config{}, fmt.Errorf("issuer.tls_roots: %w", err)
		}
	}
	c.party.Client = &http.Client{Transport: transport}
	return c, nil
}

func pair(name string) (tls.Certificate, error) {
	return tls.LoadX509KeyPair(name+".crt", name+".key")
}

func pool(names []string, path func(string) string) (*x509.CertPool, error) {
	all := x509.NewCertPool()
	n := 0
	for _, name := range names {
		b, err := os.ReadFile(path(name))
		if err != nil {
			return nil, err
		}
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all.AddCert(cert)
			n++
		}
	}
	if n == 0 {
		return nil, fmt.Errorf("no certificate")
	}
	return all, nil
}
