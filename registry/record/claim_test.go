package record_test

import (
	"strings"
	"testing"

	"enrollkiosk/registry/record"
)

// The claim code is a fixed function of the cancel code's hash; people may write it
// as they like.
func TestClaimCode(t *testing.T) {
	cancel := record.CancelHash(make([]byte, 16))
	const want = "8G88-B9ZC"
	code := record.ClaimCode(cancel)
	if code != want {
		t.Errorf("%s, want %s", code, want)
	}
	for _, typed := range []string{code, strings.ToLower(code), strings.ReplaceAll(code, "-", ""), " " + strings.ReplaceAll(code, "-", " – ") + "\u3000"} {
		if !record.IsClaimCode(typed, cancel) {
			t.Errorf("%q is refused", typed)
		}
	}
	for _, typed := range []string{"", "-", code[:8], code + "0", strings.Repeat(code, 20), record.ClaimCode(record.CancelHash([]byte("other")))} {
		if record.IsClaimCode(typed, cancel) {
			t.Errorf("%q is taken", typed)
		}
	}
	if record.ClaimCode([32]byte{}) != "" || record.IsClaimCode("", [32]byte{}) {
		t.Error("a record without a cancel code has a claim code")
	}
}
