package tlv_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"enrollkiosk/smartcard/tlv"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHeader(t *testing.T) {
	for _, c := range []struct {
		in     string
		tag    tlv.Tag
		header int
		value  int
		err    error
	}{
		{"60 16 5F", 0x60, 2, 0x16, nil},                                // ICAO 9303-10 A.1
		{"75 82 31 9E", 0x75, 4, 0x319E, nil},                           // A.3
		{"7F 61 82 31 99", 0x7F61, 5, 0x3199, nil},                      // A.3
		{"5F 1F 58", 0x5F1F, 3, 0x58, nil},                              // DG1
		{"75 83 01 00 00", 0x75, 5, 65536, nil},                         // a file over 64 KiB
		{"77 84 7F FF FF FF", 0x77, 6, 1<<31 - 1, nil},                  //
		{"77 81 05", 0x77, 3, 5, nil},                                   // longer than needed: cards do it
		{"5F 81 82 03 00", 0x5F818203, 5, 0, nil},                       // four-byte tag
		{"30 80 02 01 00 00 00", 0, 0, 0, tlv.ErrIndefinite},            //
		{"", 0, 0, 0, tlv.ErrTruncated},                                 //
		{"7F", 0, 0, 0, tlv.ErrTruncated},                               //
		{"7F 61", 0, 0, 0, tlv.ErrTruncated},                            //
		{"75 82 31", 0, 0, 0, tlv.ErrTruncated},                         //
		{"00 01 00", 0, 0, 0, tlv.ErrMalformed},                         // padding is no object
		{"5F 80 01 00", 0, 0, 0, tlv.ErrMalformed},                      // leading zero in the tag number
		{"5F 81 81 81 01 00", 0, 0, 0, tlv.ErrMalformed},                // tag too long
		{"30 85 01 00 00 00 00", 0, 0, 0, tlv.ErrMalformed},             // length too long
		{"30 84 80 00 00 00", 0, 0, 0, tlv.ErrMalformed},                // over 2^31-1
		{"30 FF 80 00 00 00 00 00 00 00 00", 0, 0, 0, tlv.ErrMalformed}, // reserved
	} {
		tag, header, value, err := tlv.Header(unhex(t, c.in))
		if tag != c.tag || header != c.header || value != c.value || !errors.Is(err, c.err) {
			t.Errorf("Header(%s) = %X, %d, %d, %v", c.in, tag, header, value, err)
		}
	}
}

func TestParseIsStrict(t *testing.T) {
	for in, want := range map[string]error{
		"02 01 00 04":    tlv.ErrTruncated,
		"02 02 00":       tlv.ErrTruncated,
		"02 01 00 00":    tlv.ErrMalformed,
		"30 80 00 00":    tlv.ErrIndefinite,
		"02 01 00 02 00": nil,
		"":               nil,
	} {
		if _, err := tlv.Parse(unhex(t, in)); !errors.Is(err, want) {
			t.Errorf("Parse(%s): %v, want %v", in, err, want)
		}
	}
	if _, err := tlv.Parse(bytes.Repeat([]byte{4, 0}, tlv.MaxNodes+1)); !errors.Is(err, tlv.ErrMalformed) {
		t.Errorf("unbounded siblings: %v", err)
	}
	if _, err := tlv.ParseOne(unhex(t, "30 00 30 00"), 0x30); !errors.Is(err, tlv.ErrMalformed) {
		t.Errorf("ParseOne took two objects: %v", err)
	}
}

func TestWalk(t *testing.T) {
	com, err := tlv.ParseOne(unhex(t, "60165f0104303130375f36063034303030305c046175766c"), 0x60) // ICAO 9303-10 A.1
	if err != nil {
		t.Fatal(err)
	}
	children, err := com.Children()
	if err != nil || len(children) != 3 {
		t.Fatalf("%d children, %v", len(children), err)
	}
	if n, ok := tlv.Find(children, 0x5F36); !ok || string(n.Value) != "040000" {
		t.Errorf("5F36 = %q", n.Value)
	}
	if _, err := children[0].Children(); !errors.Is(err, tlv.ErrMalformed) {
		t.Errorf("a primitive object has children: %v", err)
	}

	c := com.Cursor()
	if v := c.Next(0x5F01); string(v.Value) != "0107" {
		t.Errorf("Next = %q", v.Value)
	}
	if _, ok := c.Optional(0x5C); ok {
		t.Error("Optional took another tag")
	}
	c.Any()
	if !c.More() || c.Done() == nil {
		t.Error("Done overlooks a child")
	}
	c = com.Cursor()
	c.Next(0x5C)
	if n := c.Next(0x5F01); n.Raw != nil || c.Done() == nil {
		t.Error("a failure does not stick")
	}
}

func TestEncode(t *testing.T) {
	for _, tag := range []tlv.Tag{0x60, 0x7F49, 0x5F1F, 0x5F818203} {
		for _, n := range []int{0, 1, 127, 128, 255, 256, 65535, 65536} {
			value := bytes.Repeat([]byte{0xA5}, n)
			node, err := tlv.ParseOne(tlv.Encode(tag, value[:n/2], value[n/2:]), tag)
			if err != nil || !bytes.Equal(node.Value, value) {
				t.Errorf("tag %X, %d bytes: %v", tag, n, err)
			}
		}
	}
	if got := tlv.Encode(0x5F1F, make([]byte, 128))[:4]; !bytes.Equal(got, []byte{0x5F, 0x1F, 0x81, 0x80}) {
		t.Errorf("header %X", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x60, 0x16, 0x5F, 0x01, 0x04, '0', '1', '0', '7', 0x5C, 0x01, 0x61})
	f.Fuzz(func(t *testing.T, b []byte) {
		nodes, err := tlv.Parse(b)
		if err != nil {
			return
		}
		var again []byte
		for _, n := range nodes {
			again = append(again, n.Raw...)
			if n.Tag.Constructed() {
				n.Children()
			}
			encoded, err := tlv.ParseOne(tlv.Encode(n.Tag, n.Value), n.Tag)
			if err != nil || !bytes.Equal(encoded.Value, n.Value) {
				t.Fatalf("%X does not survive encoding: %v", n.Raw, err)
			}
		}
		if !bytes.Equal(again, b) {
			t.Fatal("Raw does not cover the input")
		}
	})
}
