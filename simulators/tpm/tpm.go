// Package tpm starts and stops a private TPM 2.0: swtpm behind a unix socket
// that only this user can open, with endorsement keys and certificates as a
// manufacturer would leave them.
//
// An instance lives in one directory: the TPM's permanent state and the CA
// certificates of its maker. Starting again on the same directory is a reboot
// of the same TPM. The process ends with Stop or Kill, and with the program
// that started it, however that ends. One instance serves one client at a
// time.
//
// It is for tests and demonstrations. It imports nothing of the kiosk.
package tpm

import (
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stateFile is where swtpm keeps what survives a reboot.
const stateFile = "tpm2-00.permall"

// caFiles are the maker's certificates, DER: issuer of the endorsement
// certificates first, then its root.
var caFiles = []string{"issuer.der", "root.der"}

// maxSocketPath is the longest name that fits sockaddr_un.
const maxSocketPath = 107

// ErrNotInstalled means that a program is missing; the text says which Debian
// package has it.
var ErrNotInstalled = errors.New("not installed")

// Manufacture makes a new TPM in dir: its own seeds, an RSA-2048 and a P-384
// endorsement key, and a certificate for each in NV (TCG EK Credential
// Profile 2.5: 0x01c00002 and 0x01c00016) under a CA of its own.
// It takes about a second. Start needs it only for a TPM that must differ from
// the others of this program.
func Manufacture(ctx context.Context, dir string) error {
	files, err := manufacture(ctx)
	if err != nil {
		return err
	}
	return write(dir, files)
}

// manufacture returns the files of a fresh TPM by name.
func manufacture(ctx context.Context) (map[string][]byte, error) {
	if err := installed(); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "swtpm")
	if err != nil {
		return nil, fmt.Errorf("make tpm: %w", err)
	}
	defer os.RemoveAll(tmp)
	ca, state := filepath.Join(tmp, "ca"), filepath.Join(tmp, "state")
	localca, err := exec.LookPath("swtpm_localca")
	if err != nil {
		return nil, missing("swtpm_localca", "swtpm-tools")
	}
	config := map[string]string{
		"localca.conf": "statedir = " + ca + "\nsigningkey = " + ca + "/signkey.pem\nissuercert = " + ca +
			"/issuercert.pem\ncertserial = " + ca + "/certserial\n",
		"localca.options": "--platform-manufacturer Simulated\n--platform-version 1.0\n--platform-model kiosk\n",
		"setup.conf": "create_certs_tool = " + localca + "\ncreate_certs_tool_config = " + ca +
			"/localca.conf\ncreate_certs_tool_options = " + ca + "/localca.options\nactive_pcr_banks = sha256\n",
	}
	for _, d := range []string{ca, state} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, fmt.Errorf("make tpm: %w", err)
		}
	}
	for name, text := range config {
		if err := os.WriteFile(filepath.Join(ca, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("make tpm: %w", err)
		}
	}
	setup := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--tpmstate", state,
		"--config", filepath.Join(ca, "setup.conf"), "--create-ek-cert", "--create-platform-cert",
		"--pcr-banks", "sha256", "--lock-nvram", "--not-overwrite", "--vmid", "kiosk")
	// swtpm_setup starts a swtpm of its own: a group, so that cancelling ends both.
	setup.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	setup.Cancel = func() error { return syscall.Kill(-setup.Process.Pid, syscall.SIGKILL) }
	setup.WaitDelay = time.Second
	if out, err := setup.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make tpm: swtpm_setup: %w\n%s", err, out)
	}
	files := map[string][]byte{}
	if files[stateFile], err = os.ReadFile(filepath.Join(state, stateFile)); err != nil {
		return nil, fmt.Errorf("make tpm: %w", err)
	}
	for i, name := range []string{"issuercert.pem", "swtpm-localca-rootca-cert.pem"} {
		b, err := os.ReadFile(filepath.Join(ca, name))
		if err != nil {
			return nil, fmt.Errorf("make tpm: %w", err)
		}
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, fmt.Errorf("make tpm: %s is not PEM", name)
		}
		files[caFiles[i]] = block.Bytes
	}
	return files, nil
}

func missing(program, debian string) error {
	return fmt.Errorf("%s: %w: apt-get install %s", program, ErrNotInstalled, debian)
}

func installed() error {
	var errs []error
	for _, p := range [][2]string{{"swtpm", "swtpm"}, {"swtpm_setup", "swtpm-tools"}, {"swtpm_localca", "swtpm-tools"}, {"certtool", "gnutls-bin"}} {
		if _, err := exec.LookPath(p[0]); err != nil {
			errs = append(errs, missing(p[0], p[1]))
		}
	}
	return errors.Join(errs...)
}

// write puts a TPM's files into dir, refusing one that holds a TPM already.
func write(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make tpm: %w", err)
	}
	for name, b := range files {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("make tpm: %w", err)
		}
		_, err = f.Write(b)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("make tpm: %w", err)
		}
	}
	return nil
}

// first is the TPM that every fresh directory gets a copy of: making one costs
// a second, copying it nothing. Copies share seeds and endorsement keys.
var first struct {
	sync.Mutex
	files map[string][]byte
}

func copyFirst(ctx context.Context, dir string) error {
	first.Lock()
	defer first.Unlock()
	if first.files == nil {
		files, err := manufacture(ctx)
		if err != nil {
			return err
		}
		first.files = files
	}
	return write(dir, first.files)
}

// Instance is one TPM. Its methods are not for concurrent use.
type Instance struct {
	dir, socket string
	private     string // directory to remove when the socket could not live in dir
	roots       [][]byte

	process *os.Process // nil while stopped
	exited  chan struct{}
	log     *strings.Builder // read only after exited is closed
}

// Start runs the TPM that lives in dir, or a new one if dir holds none, and
// returns when it answers. ctx bounds the start, not the TPM's life.
func Start(ctx context.Context, dir string) (*Instance, error) {
	if err := installed(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("start tpm: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, stateFile)); errors.Is(err, os.ErrNotExist) {
		if err := copyFirst(ctx, dir); err != nil {
			return nil, err
		}
	}
	i := &Instance{dir: dir, socket: filepath.Join(dir, "s")}
	for _, name := range caFiles {
		der, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("start tpm: %w", err)
		}
		i.roots = append(i.roots, der)
	}
	if len(i.socket) > maxSocketPath {
		if i.private, err = os.MkdirTemp("/tmp", "tpm"); err != nil {
			return nil, fmt.Errorf("start tpm: %w", err)
		}
		i.socket = filepath.Join(i.private, "s")
	}
	if c, err := net.Dial("unix", i.socket); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("start tpm: one runs in %s already", dir)
	}
	if err := i.start(ctx); err != nil {
		i.clean()
		return nil, err
	}
	return i, nil
}

// Path is the TPM's address: "unix:" and the socket's absolute path.
func (i *Instance) Path() string { return "unix:" + i.socket }

// Roots are the CA certificates of the endorsement certificates, DER: the
// issuer, then its root.
func (i *Instance) Roots() [][]byte { return i.roots }

// PID is the process that runs now, 0 while stopped.
func (i *Instance) PID() int {
	if i.process == nil {
		return 0
	}
	return i.process.Pid
}

func (i *Instance) start(ctx context.Context) error {
	if err := os.Remove(i.socket); err != nil && !errors.Is(err, os.ErrNotExist) { // left by a kill
		return fmt.Errorf("start tpm: %w", err)
	}
	i.log = new(strings.Builder)
	cmd := exec.Command("swtpm", "socket", "--tpm2",
		"--tpmstate", "dir="+i.dir+",mode=0600",
		"--server", "type=unixio,path="+i.socket+",mode=0600",
		"--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = i.log, i.log
	cmd.SysProcAttr = dieWithParent()
	started, exited := make(chan error), make(chan struct{})
	// The parent-death signal follows the thread that forked, so that thread
	// is kept until the child is gone.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start tpm: %w", err)
	}
	i.process, i.exited = cmd.Process, exited
	if err := i.ready(ctx); err != nil {
		i.Kill()
		return fmt.Errorf("start tpm: %w: swtpm said %q", err, i.log)
	}
	return nil
}

// ready waits until the TPM answers TPM2_GetRandom.
func (i *Instance) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		_, err := i.exchange(ctx, []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 8})
		if err == nil {
			return nil
		}
		select {
		case <-i.exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// exchange sends one command on a connection of its own and wants success. It
// returns what follows the response's header.
func (i *Instance) exchange(ctx context.Context, command []byte) ([]byte, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", i.socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if t, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(t); err != nil {
			return nil, err
		}
	}
	if _, err := c.Write(command); err != nil {
		return nil, err
	}
	var header [10]byte
	if _, err := io.ReadFull(c, header[:]); err != nil {
		return nil, err
	}
	if rc := binary.BigEndian.Uint32(header[6:]); rc != 0 {
		return nil, responseCode(rc)
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < 10 || size > 4096 {
		return nil, fmt.Errorf("response of %d bytes", size)
	}
	b := make([]byte, size-10)
	_, err = io.ReadFull(c, b)
	return b, err
}

// Stop shuts the TPM down as a machine going to sleep does: TPM2_Shutdown,
// unless a client still holds the connection, then the end of the process.
// Nothing happens if it is stopped already.
func (i *Instance) Stop() error {
	defer i.clean()
	return i.stop()
}

func (i *Instance) stop() error {
	if i.process == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	// TPM2_Shutdown(TPM_SU_CLEAR). A client that is still there has its own duty to send it.
	_, _ = i.exchange(ctx, []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0})
	if err := i.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop tpm: %w", err)
	}
	select {
	case <-i.exited:
		i.process = nil
		return nil
	case <-time.After(5 * time.Second):
		i.Kill()
		return errors.New("stop tpm: swtpm did not end and was killed")
	}
}

// Kill takes the power away: SIGKILL, no shutdown.
func (i *Instance) Kill() {
	if i.process == nil {
		return
	}
	_ = i.process.Kill() // fails only if it has ended
	<-i.exited
	i.process = nil
}

// Restart boots the TPM again at the same address, stopping it first if it runs.
func (i *Instance) Restart(ctx context.Context) error {
	if err := i.stop(); err != nil {
		return err
	}
	if i.private != "" {
		if err := os.MkdirAll(i.private, 0o700); err != nil {
			return fmt.Errorf("start tpm: %w", err)
		}
	}
	return i.start(ctx)
}

func (i *Instance) clean() {
	_ = os.Remove(i.socket)
	if i.private != "" {
		_ = os.RemoveAll(i.private)
	}
}
