package pcscd

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"testing"
	"time"
)

func TestProtocols(t *testing.T) {
	tests := []struct {
		name, atr      string
		offered, first uint32
	}{
		{"no TD: T=0", "3B021450", 1, 1},
		{"T=1 only, with check byte", "3B80800101", 3, 1},
		{"contactless emulation, T=1", "3B800181", 2, 2},
		{"YubiKey 5", "3BFD1300008131FE158073C021C057597562694B657940", 2, 2},
		{"wrong check byte", "3B800182", 0, 0},
		{"missing check byte", "3B8001", 0, 0},
		{"trailing byte", "3B02145000", 0, 0},
		{"cut inside TD chain", "3B80", 0, 0},
		{"historical bytes missing", "3B0214", 0, 0},
		{"wrong convention", "3A021450", 0, 0},
		{"empty", "", 0, 0},
		{"too long", "3B0F" + "00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF00", 0, 0},
	}
	for _, tt := range tests {
		atr, err := hex.DecodeString(tt.atr)
		if err != nil {
			t.Fatal(err)
		}
		if offered, first := protocols(atr); offered != tt.offered || first != tt.first {
			t.Errorf("%s: offered %b, first %b; want %b, %b", tt.name, offered, first, tt.offered, tt.first)
		}
	}
}

func message(command uint32, body ...byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(len(body)))
	b = binary.NativeEndian.AppendUint32(b, command)
	return append(b, body...)
}

// FuzzRequest: a request that parses has the size of its struct, consumed no
// byte of the next one, and survives a whole session against a server.
func FuzzRequest(f *testing.F) {
	f.Add(message(cmdVersion, words(4, 4, 0)...))
	f.Add(append(message(cmdVersion, words(4, 6, 0)...), message(cmdWait)...))
	f.Add(append(message(cmdTransmit, words(1, 2, 16, 4, 0, 0, 258, 0)...), 0, 0xA4, 4, 0))
	f.Add(append(message(cmdVersion, words(4, 5, 0)...), message(cmdEstablish, words(0, 0, 0)...)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		q, err := readRequest(r)
		if err == nil {
			size, known := structSize[q.command]
			if !known || len(q.body) != int(size) || uint32(len(q.payload)) > maxBuffer {
				t.Fatalf("accepted command %#x with %d+%d bytes", q.command, len(q.body), len(q.payload))
			}
			if used := len(in) - r.Len(); used != 8+len(q.body)+len(q.payload) {
				t.Fatalf("consumed %d bytes", used)
			}
		}
		s := &Server{clients: map[*client]struct{}{}, handles: map[uint32]*handle{}, changes: 1}
		reader, err := s.AddReader("Fuzz")
		if err != nil {
			t.Fatal(err)
		}
		reader.Insert(echo{})
		here, there := net.Pipe()
		c := &client{conn: there}
		s.clients[c] = struct{}{}
		go io.Copy(io.Discard, here)
		done := make(chan struct{})
		go func() { s.serve(c); close(done) }()
		here.SetWriteDeadline(time.Now().Add(5 * time.Second))
		here.Write(in)
		here.Close()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatal("session hangs")
		}
		if len(s.clients) != 0 || len(s.handles) != 0 {
			t.Fatal("session left something behind")
		}
	})
}

type echo struct{}

func (echo) ATR() []byte { return []byte{0x3B, 0x80, 0x01, 0x81} }
func (echo) Reset()      {}
func (echo) Transmit(_ context.Context, command []byte) []byte {
	return append(command, 0x90, 0)
}
