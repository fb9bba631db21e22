package portrait

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"os"
	"path/filepath"
)

// Beginnings of JPEG 2000 files: the signature box of JP2 (ISO/IEC 15444-1 I.5.1),
// the markers SOC and SIZ of a codestream (A.4.1, A.5.1).
const (
	jp2Signature = "\x00\x00\x00\x0CjP  \x0D\x0A\x87\x0A"
	codestream   = "\xFF\x4F\xFF\x51"
)

func isJPEG2000(b []byte) bool {
	return bytes.HasPrefix(b, []byte(jp2Signature)) || bytes.HasPrefix(b, []byte(codestream))
}

// maxTiles bounds what a decoder keeps for each tile. Portraits have one.
const maxTiles = 4096

// sizeJPEG2000 reads the dimensions from the SIZ segment, the first of the
// codestream, and holds them against the bounds.
func sizeJPEG2000(b []byte) (width, height int, err error) {
	malformed := func(what string) (int, int, error) {
		return 0, 0, fmt.Errorf("%w: %s", ErrFormat, what)
	}
	if bytes.HasPrefix(b, []byte(jp2Signature)) {
		if b, err = codestreamBox(b); err != nil {
			return 0, 0, err
		}
	}
	s, ok := bytes.CutPrefix(b, []byte(codestream))
	// Lsiz, Rsiz, eight sizes and Csiz (A.5.1), then three bytes a component.
	if !ok || len(s) < 38 {
		return malformed("no SIZ segment")
	}
	var x [8]int // Xsiz Ysiz XOsiz YOsiz XTsiz YTsiz XTOsiz YTOsiz
	for i := range x {
		x[i] = int(binary.BigEndian.Uint32(s[4+4*i:]))
	}
	components := int(binary.BigEndian.Uint16(s[36:]))
	switch {
	case components != 1 && components != 3:
		return malformed(fmt.Sprintf("%d components", components))
	case int(binary.BigEndian.Uint16(s)) != 38+3*components || len(s) < 38+3*components:
		return malformed("length of SIZ")
	case s[39] != 1 || s[40] != 1:
		return malformed("first component is subsampled")
	case x[4] == 0 || x[5] == 0 || x[6] > x[2] || x[7] > x[3] || x[6]+x[4] <= x[2] || x[7]+x[5] <= x[3]:
		return malformed("tile grid") // B.3
	}
	width, height = x[0]-x[2], x[1]-x[3]
	if err := within(width, height); err != nil {
		return 0, 0, err
	}
	across, down := (x[0]-x[6]-1)/x[4]+1, (x[1]-x[7]-1)/x[5]+1
	if across*down > maxTiles {
		return 0, 0, fmt.Errorf("%w: %d tiles", ErrTooLarge, across*down)
	}
	return width, height, nil
}

// codestreamBox returns the content of the first jp2c box (I.4, I.5.4).
func codestreamBox(b []byte) ([]byte, error) {
	for len(b) >= 8 {
		header, size := 8, uint64(binary.BigEndian.Uint32(b))
		switch {
		case size == 0: // to the end
			size = uint64(len(b))
		case size == 1 && len(b) >= 16:
			header, size = 16, binary.BigEndian.Uint64(b[8:])
		}
		if size < uint64(header) || size > uint64(len(b)) {
			break
		}
		if string(b[4:8]) == "jp2c" {
			return b[header:size], nil
		}
		b = b[size:]
	}
	return nil, fmt.Errorf("%w: no codestream box", ErrFormat)
}

// openJPEG is the program and the Debian package that has it.
const (
	openJPEG        = "opj_decompress"
	openJPEGPackage = "libopenjp2-tools"
)

func (d Decoder) decodeJPEG2000(ctx context.Context, b []byte) (image.Image, error) {
	width, height, err := sizeJPEG2000(b)
	if err != nil {
		return nil, err
	}
	program := d.OpenJPEG
	if program == "" {
		program = openJPEG
	}
	// opj_decompress tells formats by the ends of file names: two links give its
	// descriptors such names.
	dir, err := os.MkdirTemp("", "portrait-")
	if err != nil {
		return nil, fmt.Errorf("make links: %w", err)
	}
	defer os.RemoveAll(dir)
	in, out := filepath.Join(dir, "in.jp2"), filepath.Join(dir, "out.ppm")
	if !bytes.HasPrefix(b, []byte(jp2Signature)) {
		in = filepath.Join(dir, "in.j2k")
	}
	for name, target := range map[string]string{in: "/proc/self/fd/0", out: "/proc/self/fd/3"} {
		if err := os.Symlink(target, name); err != nil {
			return nil, fmt.Errorf("make links: %w", err)
		}
	}
	ppm, err := run(ctx, child{
		program: program, debian: openJPEGPackage, limits: d.Limits,
		// Eight bits a sample, whatever the depth.
		args:   []string{"-quiet", "-p", "8S", "-i", in, "-o", out},
		input:  b,
		output: 3,
	}, maxPPM(width, height))
	if err != nil {
		return nil, err
	}
	m, err := parsePPM(ppm)
	if err != nil {
		return nil, err
	}
	if m.Bounds().Dx() != width || m.Bounds().Dy() != height {
		return nil, fmt.Errorf("%w: not the size that its header says", ErrDecoder)
	}
	return m, nil
}
