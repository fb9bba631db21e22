package tpm_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm/tpm"
	sim "enrollkiosk/simulators/tpm"
)

// BenchmarkOperations counts the TPM commands of each operation and compares
// its time with that of tpm2-tools, which do the same on the same TPM in the
// same run (ours/tpm2-tools; a program for each step is what they are). None
// of the commands can go:
//
//   - open: on a raw socket three lists of handles, for what a crashed client
//     left, and TPM2_Shutdown; TPM2_ReadPublic shows that it is our TPM. Behind
//     a resource manager only the last.
//   - create: StartAuthSession, Create, FlushContext of the session.
//   - sign: StartAuthSession, Load, Sign, and both flushed. A key that stayed
//     loaded would cost one of three slots; a session that stayed open breaks
//     with the kernel's context gap.
//   - sign as citizen: another session, which knows the PIN.
//   - certify: StartAuthSession, two Loads, CertifyCreation, three flushes.
//   - increment: NV_ReadPublic, as the name changes with the first increment,
//     StartAuthSession, NV_Increment, NV_Read, FlushContext.
//
// FlushContext is the cheapest of all commands: the TPM computes nothing.
func BenchmarkOperations(b *testing.B) {
	i, dir, d := initialized(b)
	c := citizen(b, d)
	tmp := b.TempDir()
	in := func(name string) string { return filepath.Join(tmp, name) }
	if err := os.WriteFile(in("digest"), someDigest[:], 0o600); err != nil {
		b.Fatal(err)
	}
	_ = d.Close()
	tools := loopback(b, i)
	srk := []string{"-C", "0x81000001"}
	create := append([]string{"tpm2_create", "-G", "ecc:ecdsa-sha256", "-p", "str:0123456789abcdef0123456789abcdef", "-q", in("digest"),
		"-u", in("pub"), "-r", in("priv"), "-t", in("ticket"), "-d", in("hash")}, srk...)
	createAK := append([]string{"tpm2_create", "-G", "ecc256:ecdsa-sha256:null", "-u", in("akpub"), "-r", in("akpriv"),
		"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign|restricted"}, srk...)
	load := append([]string{"tpm2_load", "-u", in("pub"), "-r", in("priv"), "-c", in("key")}, srk...)
	loadAK := append([]string{"tpm2_load", "-u", in("akpub"), "-r", in("akpriv"), "-c", in("ak")}, srk...)
	flush := []string{"tpm2_flushcontext", "-t"}
	sign := []string{"tpm2_sign", "-c", in("key"), "-g", "sha256", "-d", in("digest"), "-f", "plain", "-o", in("sig"), "-p", "str:0123456789abcdef0123456789abcdef"}
	certify := []string{"tpm2_certifycreation", "-C", in("ak"), "-c", in("key"), "-g", "sha256", "-d", in("hash"), "-t", in("ticket"),
		"-f", "plain", "-o", in("sig"), "--attestation", in("attest"), "-q", fmt.Sprintf("%x", someDigest)}
	for _, args := range [][]string{create, createAK} { // what later tools use
		tools(b, args)
	}
	path := i.Path()
	for _, op := range []struct {
		name     string
		commands int // on a raw socket
		ours     func(context.Context, *tpm.TPM) error
		tools    [][]string
	}{
		{"open", 5, func(ctx context.Context, _ *tpm.TPM) error {
			d, err := tpm.Open(ctx, tpm.Options{Path: path, Dir: dir})
			if err != nil {
				return err
			}
			return d.Close()
		}, [][]string{{"tpm2_getcap", "handles-transient"}, {"tpm2_getcap", "handles-loaded-session"}, {"tpm2_getcap", "handles-saved-session"},
			{"tpm2_readpublic", "-c", "0x81000001"}, {"tpm2_shutdown", "-c"}}},
		{"create", 3, func(ctx context.Context, d *tpm.TPM) error {
			_, err := d.CreateCitizen(ctx, binding, text(rightPIN))
			return err
		}, [][]string{create}},
		{"sign", 5, func(ctx context.Context, d *tpm.TPM) error {
			_, err := d.RecordKey().Sign(ctx, someDigest[:])
			return err
		}, [][]string{load, flush, sign, flush}},
		{"sign-as-citizen", 7, func(ctx context.Context, d *tpm.TPM) error {
			c, err := d.Citizen(c.Name())
			if err != nil {
				return err
			}
			_, err = c.Key(text(rightPIN)).Sign(ctx, someDigest[:])
			return err
		}, [][]string{load, flush, sign, flush}},
		{"certify", 7, func(ctx context.Context, d *tpm.TPM) error {
			_, err := d.Certify(ctx, tpm.Record, someDigest[:])
			return err
		}, [][]string{loadAK, flush, load, flush, certify, flush}},
		{"increment", 5, func(ctx context.Context, d *tpm.TPM) error {
			_, err := d.Increment(ctx)
			return err
		}, [][]string{{"tpm2_nvincrement", "-C", "0x01800100", "0x01800100"}, {"tpm2_nvread", "-C", "0x01800100", "-s", "8", "0x01800100"}}},
	} {
		b.Run(op.name, func(b *testing.B) {
			n := commands(b, i, dir, &path, op.ours)
			if n != op.commands {
				b.Errorf("%d commands, want %d", n, op.commands)
			}
			var d *tpm.TPM
			if op.name != "open" { // one client at a time
				d = open(b, i, dir)
				if err := op.ours(b.Context(), d); err != nil { // the storage root key is read once
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := op.ours(b.Context(), d); err != nil {
					b.Fatal(err)
				}
			}
			ours := b.Elapsed().Seconds() / float64(b.N)
			if d != nil {
				_ = d.Close()
			}
			var theirs []float64
			for range 5 {
				begin := time.Now()
				for _, args := range op.tools {
					tools(b, args)
				}
				theirs = append(theirs, time.Since(begin).Seconds())
			}
			slices.Sort(theirs)
			b.ReportMetric(float64(n), "commands/op")
			b.ReportMetric(ours/theirs[2], "ours/tpm2-tools")
		})
	}
}

// commands counts those of one operation.
func commands(b *testing.B, i *sim.Instance, dir string, path *string, f func(context.Context, *tpm.TPM) error) (n int) {
	w := newWire(b, i)
	*path = w.path
	defer func() { *path = i.Path() }()
	var d *tpm.TPM
	count := func(command []byte, ask func([]byte) []byte) []byte { n++; return ask(command) }
	if !strings.HasSuffix(b.Name(), "/open") {
		var err error
		if d, err = tpm.Open(b.Context(), tpm.Options{Path: w.path, Dir: dir}); err != nil {
			b.Fatal(err)
		}
		defer d.Close()
	}
	w.set(count)
	defer w.set(nil)
	if err := f(b.Context(), d); err != nil {
		b.Fatal(err)
	}
	return n
}

// loopback offers i to tpm2-tools as a swtpm on TCP, with a control channel
// that agrees to everything. It returns what runs a tool.
func loopback(b *testing.B, i *sim.Instance) func(*testing.B, []string) {
	var data, control net.Listener
	for port := 20000; data == nil; port += 2 { // two ports that follow each other
		var err error
		if data, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
			continue
		}
		if control, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1)); err != nil {
			_ = data.Close()
			data = nil
		}
	}
	b.Cleanup(func() { _ = data.Close(); _ = control.Close() })
	go func() {
		for {
			c, err := control.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for buf := make([]byte, 64); ; {
					if _, err := c.Read(buf); err != nil {
						return
					}
					_, _ = c.Write(make([]byte, 4))
				}
			}()
		}
	}()
	go func() {
		for {
			c, err := data.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("unix", strings.TrimPrefix(i.Path(), "unix:"))
			if err != nil {
				_ = c.Close()
				continue
			}
			go func() { _, _ = io.Copy(back, c); _ = back.(*net.UnixConn).CloseWrite() }()
			_, _ = io.Copy(c, back)
			_, _ = c.Close(), back.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(data.Addr().String())
	return func(b *testing.B, args []string) {
		b.Helper()
		path, err := exec.LookPath(args[0])
		if err != nil {
			b.Fatalf("%v: apt-get install tpm2-tools", err)
		}
		cmd := exec.CommandContext(b.Context(), path, args[1:]...)
		cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port="+port)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}
