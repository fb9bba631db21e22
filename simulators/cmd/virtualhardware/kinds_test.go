package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/sam"
	belgian "enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/prcid"
)

// A reader of its own, with the root in the issuers' folder: OpenSC's programs
// read the card beside all the others.
func TestBelgianCardBesideTheOthers(t *testing.T) {
	dir := folder(t)
	socket, issuers := filepath.Join(dir, "s"), filepath.Join(dir, "a")
	cmd := startProgram(t, "--socket", socket, "--authority", issuers, "--belgian", "specimen", "--belgian-applet", "1.7")
	if list := tool(t, socket, "opensc", "opensc-tool", "-l"); strings.Count(list, "Yes") != 4 || !strings.Contains(list, belgianReader) {
		t.Errorf("readers: %s", list)
	}
	number := "3" // of the reader, in that list
	root := tool(t, socket, "opensc", "pkcs15-tool", "--reader", number, "--read-certificate", "06")
	if block, _ := pem.Decode([]byte(root)); block == nil || !bytes.Equal(block.Bytes, read(t, issuers, "belgium.der")) {
		t.Errorf("the root on the card is not that of the folder:\n%s", root)
	}
	path, err := exec.LookPath("eidenv")
	if err != nil {
		t.Fatal("eidenv is missing: install the Debian package opensc")
	}
	eidenv := exec.CommandContext(t.Context(), path, "--reader", number)
	eidenv.Env = append(eidenv.Environ(), "PCSCLITE_CSOCK_NAME="+socket)
	out, _ := eidenv.Output() // version 0.23 ends with status 1 after it has printed a Belgian card
	if !strings.Contains(string(out), "BELPIC_NAME: "+beid.Specimen().Surname+"\n") {
		t.Errorf("eidenv: %s", out)
	}
	terminate(t, cmd)
}

// wire is a card behind vpcd's protocol, as the driver has it.
type wire struct{ net.Conn }

func (w wire) Transmit(_ context.Context, command []byte) ([]byte, error) {
	if _, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(command))), command...)); err != nil {
		return nil, err
	}
	var header [2]byte
	if _, err := io.ReadFull(w, header[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, binary.BigEndian.Uint16(header[:]))
	_, err := io.ReadFull(w, answer)
	return answer, err
}

// inVPCD is the card that the program plugs into a virtual reader.
func inVPCD(t *testing.T, args ...string) wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
		if conn, err := l.Accept(); err == nil {
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			conn.Write([]byte{0, 1, 1, 0, 1, 4}) // power on; who are you?
			accepted <- conn
		}
		close(accepted)
	}()
	startProgram(t, append(args, "--vpcd", l.Addr().String())...)
	conn, ok := <-accepted
	if !ok {
		t.Fatal("nobody came")
	}
	t.Cleanup(func() { conn.Close() })
	atr := make([]byte, 2+20)
	if _, err := io.ReadFull(conn, atr[:2]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, atr[2:2+int(atr[1])]); err != nil || !belgian.Recognise(atr[2:2+int(atr[1])]) {
		t.Fatalf("answer to reset %x, %v", atr, err)
	}
	return wire{conn}
}

func TestBelgianCardInVPCD(t *testing.T) {
	challenge := [32]byte{1}
	for _, c := range []struct {
		args  []string
		want  error
		signs bool
	}{
		{nil, nil, true}, // applet 1.8
		{[]string{"--belgian-applet", "1.1"}, nil, false},
		{[]string{"--belgian-fault", "altered-address"}, belgian.ErrSignature, true},
		{[]string{"--belgian-fault", "expired", "--belgian-fault", "clone"}, belgian.ErrChip, true},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			issuers := filepath.Join(folder(t), "a")
			card := inVPCD(t, append(c.args, "--belgian", "specimen", "--authority", issuers)...)
			doc, err := belgian.Read(t.Context(), card, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if doc.Chip, err = belgian.AuthenticateChip(t.Context(), card, challenge); (err == nil) != c.signs {
				t.Errorf("the chip proves itself: %v", err)
			}
			roots, err := belgian.NewRoots(belgian.Root{Certificate: read(t, issuers, "belgium.der"), Class: belgian.Test})
			if err != nil {
				t.Fatal(err)
			}
			_, report, err := belgian.Verify(doc, roots, time.Now(), belgian.Options{ExpectedChallenge: &challenge, RequireChip: c.signs})
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v: %+v", err, c.want, report)
			}
		})
	}
}

// The module's port stands behind "ready". It finds a card once, and again when
// it was put on again.
func TestResidentCard(t *testing.T) {
	dir := folder(t)
	for name, args := range map[string][]string{"alone": nil, "beside readers": {"--socket", filepath.Join(dir, "s")}} {
		t.Run(name, func(t *testing.T) {
			cmd, port := startSaying(t, append(args, "--resident", "specimen")...)
			module, err := prcid.Open(t.Context(), port, prcid.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer module.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for range 2 {
				if err := module.Wait(ctx); err != nil {
					t.Fatal(err)
				}
				doc, err := module.Read(ctx, nil)
				if err != nil || string(doc.Name.Reveal()) != sam.Specimen().Name {
					t.Errorf("reads another card: %v", err)
				}
				if err := module.Find(ctx); !errors.Is(err, prcid.ErrNoCard) {
					t.Errorf("a card that was read is found: %v", err)
				}
				cmd.Process.Signal(syscall.SIGUSR1)
			}
			terminate(t, cmd)
		})
	}
	_, port := startSaying(t, "--resident", "specimen", "--resident-fault", "not-genuine")
	if _, err := prcid.Open(t.Context(), port, prcid.Options{}); !errors.Is(err, prcid.ErrNotGenuine) {
		t.Errorf("fault not-genuine: %v", err)
	}
}
