package station

import (
	"testing"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
)

// What of a drive's proof is handed to the agent still reaches back to where a key
// of the log ended.
func TestOnlyOfADrivesProof(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(700, "a")
	l.Publish(t, 700)
	end, err := l.Key.Log.Open(l.Signed(t, 300))
	if err != nil {
		t.Fatal(err)
	}
	l.Key = l.Key.Rotate(t).Retire(end)
	newest, err := l.Key.Log.Open(l.Signed(t, 700))
	if err != nil {
		t.Fatal(err)
	}
	proof, err := checkpoint.Prove(t.Context(), l, newest, 300, 520, 600)
	if err != nil {
		t.Fatal(err)
	}
	g := driveLog{log: l.Key.Log, proof: proof}
	for size, there := range map[uint64]bool{300: true, 600: true, 20: false} {
		if _, err := checkpoint.NewTree(g.only(t.Context(), newest, 600), newest).Root(t.Context(), size); (err == nil) != there {
			t.Errorf("%d: %v", size, err)
		}
	}
}
