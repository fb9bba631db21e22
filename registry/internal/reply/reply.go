// Package reply writes the HTTP answers of registry and vault.
package reply

import (
	"encoding/json"
	"net/http"
	"strconv"

	"enrollkiosk/registry/api"
)

// Bytes answers with b.
func Bytes(w http.ResponseWriter, status int, media string, b []byte) {
	w.Header().Set("Content-Type", media)
	w.WriteHeader(status)
	w.Write(b) // a peer that has gone asks again
}

// JSON answers with plain data, which always encodes.
func JSON(w http.ResponseWriter, v any) {
	Bytes(w, http.StatusOK, api.MediaJSON, encode(v))
}

// Size is how many bytes v takes in an answer.
func Size(v any) int { return len(encode(v)) }

// Problem answers with a problem (RFC 9457); after is in seconds, 0 says nothing.
func Problem(w http.ResponseWriter, status int, code, title string, after int) {
	p := api.NewProblem(status, code, title)
	p.RetryAfter = after
	Refusal(w, p)
}

// Refusal answers with a problem that says more.
func Refusal(w http.ResponseWriter, p api.Problem) {
	w.Header().Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	Bytes(w, p.Status, api.MediaProblem, encode(p))
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
