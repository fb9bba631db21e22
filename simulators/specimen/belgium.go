package specimen

import (
	"fmt"
	"os"
	"path/filepath"

	"enrollkiosk/simulators/beid"
)

const rootBelgium = "belgium.der"

// Belgium makes the Belgian authorities of a generation of cards. Their keys,
// unlike everybody else's, are not kept: they end with the program, and the
// folder has the certificate of the root that was made last.
func (a *Authority) Belgium(g beid.Generation) (*beid.Issuer, error) {
	issuer, err := beid.NewIssuer(g)
	if err != nil {
		return nil, fmt.Errorf("make Belgian authority: %w", err)
	}
	if a.dir == "" {
		return issuer, nil
	}
	// Whoever copies the file gets this root or the one before, whole.
	made := filepath.Join(a.dir, fmt.Sprintf(".%s.%d", rootBelgium, os.Getpid()))
	if err = os.WriteFile(made, issuer.Root(), 0o600); err == nil {
		err = os.Rename(made, filepath.Join(a.dir, rootBelgium))
	}
	if err != nil {
		os.Remove(made)
		return nil, fmt.Errorf("make Belgian authority: %w", err)
	}
	return issuer, nil
}
