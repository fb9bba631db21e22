package idcard

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFaceGroups(t *testing.T) {
	a := testAuthority(t, ECDSA)
	group := func(o FaceGroup) *Node { return nodeOf(t, profileOf(t, a, Options{DG2: o}).Application[dg2]) }
	record := func(n *Node) []byte { return n.Find(0x7F61, 0x7F60, 0x5F2E).Value }

	plain := record(group(FaceGroup{}))
	if !bytes.HasPrefix(plain, []byte("FAC\x00010\x00")) || !bytes.HasSuffix(plain, specimenFace) || len(plain) != 14+20+12+len(specimenFace) {
		t.Errorf("record of %d bytes, %x", len(plain), plain[:46])
	}
	if want := slices.Concat([]byte{1, 0}, u16(360), u16(480)); !bytes.Equal(plain[34:40], want) {
		t.Errorf("image information %x, want %x", plain[34:40], want)
	}
	points := record(group(FaceGroup{Points: 2}))
	if len(points) != len(plain)+16 || points[19] != 2 || points[14+20] != 0x01 || points[14+21] != 0x31 {
		t.Errorf("two feature points: %x", points[:62])
	}
	jp2 := record(group(FaceGroup{Images: [][]byte{PortraitJP2()}, Points: 1}))
	at := 14 + 20 + 8
	if want := slices.Concat([]byte{1, 1}, u16(360), u16(480)); !bytes.Equal(jp2[at:at+6], want) {
		t.Errorf("image information %x, want %x", jp2[at:at+6], want)
	}
	if img := decodeJP2(t, jp2[at+12:]); img.Dx() != 360 || img.Dy() != 480 {
		t.Errorf("OpenJPEG sees %v", img)
	}
	two := group(FaceGroup{Images: [][]byte{specimenFace, PortraitJP2()}}).Find(0x7F61)
	if len(two.Children) != 3 || two.Children[0].Value[0] != 2 {
		t.Errorf("two faces in %d elements", len(two.Children))
	}
	one := record(group(FaceGroup{Images: [][]byte{specimenFace, PortraitJP2()}, OneRecord: true}))
	if one[13] != 2 || len(one) != len(plain)+32+len(PortraitJP2()) {
		t.Errorf("two faces in one record: %x", one[:14])
	}

	newer := group(FaceGroup{ISO39794: true}).Find(0x7F61, 0x7F60)
	if format := newer.Find(0xA1, 0x88).Value; !bytes.Equal(format, []byte{0, 0x2A}) {
		t.Errorf("format type %x", format)
	}
	image := newer.Find(0x7F2E, 0xA1, 0x65, 0xA1, 0x30, 0xA1, 0xA0, 0xA0, 0x80)
	if image == nil || !bytes.Equal(image.Value, specimenFace) {
		t.Error("no image in the block of 39794-5")
	}
	for _, size := range []int{18_000, 32_768, 40_000, 66_000, 200_000} {
		for _, images := range [][][]byte{{specimenFace}, {PortraitJP2()}} {
			o := FaceGroup{Images: images, Size: size}
			if n := group(o).Encode(); len(n) != size {
				t.Errorf("%d bytes, want %d", len(n), size)
			} else if !isJP2(images[0]) {
				imageIn(t, n)
			} else if img := decodeJP2(t, n[bytes.Index(n, []byte("\x00\x00\x00\x0CjP")):]); img.Dx() != 360 {
				t.Errorf("%d bytes: OpenJPEG sees %v", size, img)
			}
		}
	}
	if _, err := a.Personalise(SpecimenPerson(), Options{Face: specimenFace, DG2: FaceGroup{Size: 1000}}); err == nil {
		t.Error("a face of 15 kB in a file of 1000 bytes")
	}
}

func TestPaddedPicturesStayPictures(t *testing.T) {
	for _, n := range []int{4, 59_999, 60_000, 60_001, 60_002, 60_003, 60_004, 120_001, 250_000} {
		b, err := padded(specimenFace, n)
		if err != nil || len(b) != len(specimenFace)+n {
			t.Fatalf("%d bytes more: %d (%v)", n, len(b)-len(specimenFace), err)
		}
		imageIn(t, b)
	}
	for _, n := range []int{1, 3} {
		if _, err := padded(specimenFace, n); err == nil {
			t.Errorf("a comment of %d bytes", n)
		}
	}
}

// decodeJP2 has OpenJPEG decode a picture.
func decodeJP2(t *testing.T, b []byte) image.Rectangle {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.pgx")
	if msg, err := exec.Command("opj_decompress", "-i", write(t, "in.jp2", b), "-o", out).CombinedOutput(); err != nil {
		t.Fatalf("opj_decompress (apt-get install libopenjp2-tools): %v\n%s", err, msg)
	}
	first, err := os.ReadFile(strings.TrimSuffix(out, ".pgx") + "_0.pgx")
	if err != nil {
		t.Fatal(err)
	}
	var r image.Rectangle
	if _, err := fmt.Sscanf(string(first[:64]), "PG ML + 8 %d %d", &r.Max.X, &r.Max.Y); err != nil {
		t.Fatalf("%q: %v", first[:32], err)
	}
	return r
}

// The optional groups are written as Doc 9303 prints them.
func TestGroupsOfDoc9303(t *testing.T) {
	file := vectors[struct {
		Vectors []struct {
			Name   string
			Bytes  hexBytes
			Header hexBytes `json:"header_bytes"`
		}
	}](t, filepath.Join("..", "lds", "lds.json"))
	got := map[string][]byte{
		"DG11, five elements": Details{FullName: "SMITH<<JOHN<J", BirthPlace: "ANYTOWN<MN", Address: "123 MAPLE RD<ANYTOWN<MN",
			Telephone: "16125551212", Profession: "TRAVEL<AGENT"}.Encode(),
		"DG11, two other names inside A0":              Details{OtherNames: []string{"SMITH<<JOHN", "JOHN<SMITH"}}.Encode(),
		"DG12, personalization time and system number": DocumentDetails{Personalised: "20161115013612", SystemNumber: "N-4962"}.Encode(),
		"DG16, two persons to notify": Contacts(
			Contact{"20020101", "SMITH<<CHARLES<R", "19525551212", "123 MAPLE RD<ANYTOWN<MN<55100"},
			Contact{"20020315", "BROWN<<MARY<J", "14155551212", "49 REDWOOD LN<OCEAN BREEZE<CA<94000"}),
		"DG5 header, 2 000 byte image": append([]byte{0x65}, Signatures(make([]byte, 2000))[1:]...),
	}
	got["DG5 header, 2 000 byte image"][8] = 0x40 // DG7 is of the same shape with its own tags
	for _, v := range file.Vectors {
		want := v.Bytes
		if len(want) == 0 {
			want = v.Header
		}
		if b, ok := got[v.Name]; ok {
			if len(v.Bytes) == 0 {
				b = b[:len(want)]
			}
			if !bytes.Equal(b, want) {
				t.Errorf("%s:\n%x, want\n%x", v.Name, b, want)
			}
			delete(got, v.Name)
		}
	}
	for name := range got {
		t.Errorf("no example %q", name)
	}
	if b := (Details{Birth: "19740812", PackedBirth: true}).Encode(); !bytes.HasSuffix(b, []byte{0x5F, 0x2B, 4, 0x19, 0x74, 0x08, 0x12}) {
		t.Errorf("packed date of birth: %x", b)
	}
	if b := (DocumentDetails{OtherPersons: []string{"SMITH"}}).Encode(); !bytes.Contains(b, []byte{0x5C, 2, 0x5F, 0x1A, 0xA0}) {
		t.Errorf("other persons: %x", b)
	}
}

func TestOptionalGroupsAreRead(t *testing.T) {
	groups, err := OptionalGroups(SpecimenPerson())
	if err != nil {
		t.Fatal(err)
	}
	c := issue(t, Options{Files: groups})
	r := connect(t, c)
	r.paceCAN()
	for _, id := range []uint16{0x0107, 0x010B, 0x010C, 0x010D, 0x0110} {
		b, err := r.read(id)
		if err != nil || !bytes.Equal(b, groups[id]) {
			t.Errorf("%04X: %v", id, err)
		}
	}
	com, err := r.read(efCOM)
	if err != nil || !bytes.HasSuffix(com, []byte{0x5C, 9, 0x61, 0x75, 0x67, 0x6B, 0x6C, 0x6D, 0x6E, 0x6F, 0x70}) {
		t.Errorf("EF.COM %x (%v)", com, err)
	}
	imageIn(t, groups[0x0107])
}

// imageIn is the JPEG at the end of DG2, which must show something.
func imageIn(t *testing.T, group []byte) []byte {
	t.Helper()
	at := bytes.Index(group, []byte{0xFF, 0xD8, 0xFF})
	if at < 0 {
		t.Fatal("no JPEG in DG2")
	}
	if _, err := jpeg.Decode(bytes.NewReader(group[at:])); err != nil {
		t.Fatal(err)
	}
	return group[at:]
}
