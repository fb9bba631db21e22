package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry/checkpoint/logtest"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/registrytest"
)

// The log's key changes by two commands, each of which says what is next, and why not.
func TestLogKeyCommands(t *testing.T) {
	w := registrytest.New(t)
	own := filepath.Join(w.Dir, "witness")
	ends(t, command.Done, "witness key", "witness", "init", own, "--name", "witness.example/w1")
	old := w.Policy.Policy().LogKey
	ends(t, command.Done, "is watched", "witness", "watch", own, old)
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	file := write(t, w.Dir, "registry.toml", config(w, ""))
	rotate, retire := []string{"keys", "rotate", "log", "--config", file}, []string{"keys", "retire", "log", "--config", file}

	ends(t, command.Refused, "no second key", retire...)
	_, stop := serves(t, "serve", "--config", file)
	ends(t, command.Refused, "stop it first", append(rotate, "--now")...)
	next := after(t, ends(t, command.Done, "30 days after that policy was signed", rotate...), "a key of the log: ")
	ends(t, command.Refused, "two keys already", rotate...)
	ends(t, command.Refused, "does not name the log's new key", retire...)
	stop()
	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	_, stop = serves(t, "serve", "--config", file)
	ends(t, command.Done, "log key  "+next+"\nlog key  "+old+"\n", "status", "--config", file)
	ends(t, command.Refused, "or say --now", retire...)
	ends(t, command.Done, "has ended at 0 leaves: "+old, append(retire, "--now")...)
	ends(t, command.Refused, "no second key", retire...)
	stop()

	ends(t, command.Usage, "--now goes with log", "keys", "rotate", "verdict", "--now", "--config", file)
	ends(t, command.Usage, "keys retire log", "keys", "retire", "tls", "--config", file)
	ends(t, command.Usage, "keys rotate or retire", "keys")
	ends(t, command.Usage, "or log", "keys", "rotate", "nothing", "--config", file)

	ends(t, command.Done, "is watched", "witness", "watch", own, next, "--only")
	ends(t, command.Refused, "with this key", "witness", "watch", own, next)
	ends(t, command.Refused, "not taken back", "witness", "watch", own, old)
}

// Copies and audits know a log by all its keys.
func TestKeysOnTheCommandLine(t *testing.T) {
	w := registrytest.New(t)
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	file := write(t, w.Dir, "registry.toml", config(w, ""))
	_, stop := serves(t, "serve", "--config", file)
	log, mirror := filepath.Join(w.RegistryDir(), "log"), filepath.Join(w.Dir, "mirror")
	old := w.Policy.Policy().LogKey
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // a new log's first checkpoint
		if _, err := os.Stat(filepath.Join(log, "checkpoint")); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	ends(t, command.Done, "0 leaves", "log", "copy", log, mirror, "--vkey", old)
	stop()
	next := after(t, ends(t, command.Done, "has ended at 0 leaves", "keys", "rotate", "log", "--now", "--config", file), "a key of the log: ")
	ends(t, command.Failed, "is not for this registry", "serve", "--config", file)
	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	keys := w.Policy.Policy().Log().Keys()
	if len(keys) != 2 || keys[0] != next || !strings.HasPrefix(keys[1], old+" 0 ") {
		t.Fatal(keys)
	}
	// The mirror is what the old key has signed; the registry has not signed since.
	state := []string{"--state", filepath.Join(w.Dir, "audit")}
	ends(t, command.Done, "0 leaves", "log", "copy", mirror, filepath.Join(w.Dir, "mirror2"), "--vkey", keys[0], "--vkey", keys[1])
	ends(t, command.Done, "0 leaves", "log", "copy", mirror, filepath.Join(w.Dir, "mirror3"), "--vkey", strings.Join(keys, "\n"))
	ends(t, command.Done, "all verified", append([]string{"audit", mirror, "--log-key", keys[0], "--log-key", keys[1]}, state...)...)
	ends(t, command.Refused, "checkpoint-signature", append([]string{"audit", mirror, "--log-key", keys[0]}, state...)...)
	ends(t, command.Failed, "checkpoint-signature", "log", "copy", mirror, filepath.Join(w.Dir, "mirror4"), "--vkey", keys[0])
	ends(t, command.Usage, "checkpoint-key", "log", "copy", mirror, filepath.Join(w.Dir, "mirror4"), "--vkey", keys[1])
	ends(t, command.Usage, "want KEY, or KEY SIZE ROOT", "audit", mirror, "--log-key", keys[0], "--log-key", keys[1]+" x")

	// A thief goes on with the old key.
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(3, "a")
	thief := l.Key
	first := l.Signed(t, 2)
	l.Fill(3, "a")
	c, err := l.Key.Log.Open(first)
	if err != nil {
		t.Fatal(err)
	}
	ended := thief.Rotate(t).Retire(c).Log.Keys()
	dir := t.TempDir()
	write(t, dir, "checkpoint", string(l.Signed(t, 6)))
	ends(t, command.Refused, "ended at 2 leaves, this tree has 6", "audit", dir, "--log-key", ended[0], "--log-key", ended[1], "--state", filepath.Join(dir, "audit"))
}
