package prcid

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// preamble begins every frame both ways: three bytes to fall into step, two to
// begin.
const preamble = "\xAA\xAA\xAA\x96\x69"

// command is CMD and Para of the SAM_V protocol. None of those used here carries
// data.
type command [2]byte

var (
	commandReset       = command{0x10, 0xFF}
	commandStatus      = command{0x11, 0xFF}
	commandNumber      = command{0x12, 0xFF}
	commandFind        = command{0x20, 0x01}
	commandSelect      = command{0x20, 0x02}
	commandRead        = command{0x30, 0x01} // text and photo
	commandReadAddress = command{0x30, 0x03} // address added after issue
	commandReadPrints  = command{0x30, 0x10} // text, photo and fingerprints
)

// frame is the preamble, the length of what follows it, CMD, Para and the XOR
// of all but the preamble.
func (c command) frame() []byte {
	return append([]byte(preamble), 0, 3, c[0], c[1], 3^c[0]^c[1])
}

// answer is a frame of the module: status and data.
type answer struct {
	status Status
	data   []byte
}

// Sizes of what a card holds.
const (
	textSize   = 256
	photoSize  = 1024
	printSize  = 512
	printCount = 2
)

// Bounds of a frame's length field: status and checksum at least, at most a card
// with fingerprints.
const (
	minLength = 3 + 1
	maxLength = 3 + 6 + textSize + photoSize + printCount*printSize + 1
)

// maxNoise bounds what may come before a preamble.
const maxNoise = 1024

// readAnswer reads one frame. It skips noise before the preamble and nothing
// else. progress may be nil.
func readAnswer(r *bufio.Reader, progress func(Progress)) (answer, error) {
	if err := skipToFrame(r); err != nil {
		return answer{}, err
	}
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return answer{}, broken(err)
	}
	length := int(binary.BigEndian.Uint16(head[:]))
	if length < minLength || length > maxLength {
		return answer{}, fmt.Errorf("%w: length %d", ErrFrame, length)
	}
	body := make([]byte, length)
	for done := 0; done < length; {
		n, err := r.Read(body[done:])
		if done += n; n > 0 && progress != nil {
			progress(Progress{done, length})
		}
		if err != nil && done < length {
			return answer{}, broken(err)
		}
	}
	sum := head[0] ^ head[1]
	for _, b := range body {
		sum ^= b
	}
	if sum != 0 { // the last byte is the XOR of the others
		return answer{}, fmt.Errorf("%w: checksum", ErrFrame)
	}
	return answer{Status(body[:3]), body[3 : length-1]}, nil
}

// skipToFrame reads up to and with the next preamble.
func skipToFrame(r *bufio.Reader) error {
	var last [len(preamble)]byte
	for read := 0; read < maxNoise+len(preamble); read++ {
		b, err := r.ReadByte()
		switch {
		case err == nil:
		case read == 0 && errors.Is(err, os.ErrDeadlineExceeded):
			return ErrNoAnswer
		default:
			return broken(err)
		}
		copy(last[:], last[1:])
		last[len(last)-1] = b
		if string(last[:]) == preamble {
			return nil
		}
	}
	return fmt.Errorf("%w: %d bytes without a beginning", ErrFrame, maxNoise)
}

// broken says that a frame ended early: on a silent line that is the frame's
// fault, otherwise the line's.
func broken(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: ends early", ErrFrame)
	}
	return fmt.Errorf("read from module: %w", err)
}

// splitContent cuts the data of a card into its parts, whose lengths come first.
func splitContent(data []byte, withPrints bool) (text, photo, prints []byte, err error) {
	heads := 2
	if withPrints {
		heads = 3
	}
	if len(data) < 2*heads {
		return nil, nil, nil, fmt.Errorf("%w: %d bytes of content", ErrFrame, len(data))
	}
	var sizes [3]int
	for i := range heads {
		sizes[i] = int(binary.BigEndian.Uint16(data[2*i:]))
	}
	rest := data[2*heads:]
	if sizes[0] != textSize || sizes[1] != 0 && sizes[1] != photoSize || sizes[2]%printSize != 0 ||
		sizes[0]+sizes[1]+sizes[2] != len(rest) {
		return nil, nil, nil, fmt.Errorf("%w: content of %d, %d and %d bytes in %d", ErrFrame, sizes[0], sizes[1], sizes[2], len(rest))
	}
	return rest[:textSize:textSize], rest[textSize : textSize+sizes[1] : textSize+sizes[1]], rest[textSize+sizes[1]:], nil
}
