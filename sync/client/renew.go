package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"net/http"

	"enrollkiosk/registry/api"
)

// Renew sends receipt.SignRenewal's request for new certificates. What comes back is as
// the registry sent it: whose keys they are for, and who issued them, is the caller's to
// check.
func (c *Client) Renew(ctx context.Context, signed []byte) (certs api.KioskCertificates, err error) {
	err = c.do(ctx, http.MethodPost, api.PathRenewal, signed, api.MediaJSON, api.MaxBody, func(b []byte) error {
		certs, err = api.Decode[api.KioskCertificates](bytes.NewReader(b))
		return err
	})
	if err != nil {
		return api.KioskCertificates{}, fmt.Errorf("renew certificates: %w", err)
	}
	return certs, nil
}

// Present has connections show another certificate from now on. Idle ones are dropped;
// requests under way are not disturbed.
func (c *Client) Present(certificate tls.Certificate) {
	c.line.present(certificate)
	c.Close()
}

func (l *line) present(certificate tls.Certificate) {
	if signer, ok := certificate.PrivateKey.(crypto.Signer); ok {
		certificate.PrivateKey = watchedSigner{signer, &l.keyFault}
	}
	l.certificate.Store(&certificate)
}
