package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"enrollkiosk/registry/internal/backup"
	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
)

// backupKind is what a vault's backups call themselves.
const backupKind = "vault"

// Backup copies the vault's directory into to while it serves, and its private
// keys into keys unless that is empty. snapshot writes the store as it is at one
// moment; the policy in force names the key that signs. The authority's root key is in no backup: it has a safe of its own.
//
// The store tells persons apart by hashes under the key in persons.key, so that
// each is of no use without the other: the manifest knows which key it was.
func Backup(ctx context.Context, dir string, p policy.Signed, to, keys string, snapshot func(context.Context, io.Writer) error, now time.Time) (backup.Manifest, error) {
	signer, err := verdictKey(dir, p)
	if err != nil {
		return backup.Manifest{}, err
	}
	m, err := backup.Write(ctx, backup.Source{Kind: backupKind, Dir: dir, Leave: []string{fileStore, console.File}, NeverKey: isRootKey,
		Parts: []backup.Part{{Path: fileStore, Write: snapshot}}, Signer: signer, Now: now}, to, keys)
	if err != nil {
		return m, err
	}
	return m, m.Verify(to) // what a disk has taken is only known when it is read
}

// Snapshot writes the store as it is at one moment, while verdicts are given.
func (v *Vault) Snapshot(ctx context.Context, w io.Writer) error { return v.store.snapshot(ctx, w) }

func (s *store) snapshot(ctx context.Context, w io.Writer) error {
	tx, err := s.db.Begin(false)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	_, err = tx.WriteTo(w)
	return errors.Join(err, ctx.Err())
}

// Restore puts a vault back into dir, which must be empty or not there: whole and
// verified, or not at all. The policy names the keys that sign backups.
//
// Records that were judged after the backup was made are judged anew when the
// registry asks again; for those that it has a verdict of, it does not ask. The
// persons among them are not known to the vault any more: see Unknown.
func Restore(ctx context.Context, from, keys, dir string, p policy.Signed) error {
	m, err := backup.Open(from, backupKind, p.Policy().VerdictKeys.Vault)
	if err != nil {
		return err
	}
	if err := m.Verify(from); err != nil {
		return err
	}
	err = keyfile.NewDir(dir, func(dir string) error {
		if err := m.Restore(ctx, from, keys, dir); err != nil {
			return err
		}
		st, err := openStore(filepath.Join(dir, fileStore)) // it can be opened
		if err != nil {
			return err
		}
		return st.Close()
	})
	if err != nil {
		return fmt.Errorf("put vault back: %w", err)
	}
	return nil
}
