package setup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// dataDir stays on this machine: roaming profiles copy files, and a copy in use on two
// machines may give one index to two websites.
func dataDir() (string, error) {
	d, err := os.UserCacheDir() // %LocalAppData%
	if err != nil {
		return "", err
	}
	return filepath.Join(d, "enrollkiosk", "holder"), nil
}

// Browse opens an https address in the default browser. No shell reads it.
func Browse(ctx context.Context, address string) error {
	return exec.CommandContext(ctx, "rundll32.exe", "url.dll,FileProtocolHandler", address).Run()
}
