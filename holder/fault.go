package holder

// Fault is why a run ended: a code for logs, with a sentence that says what the
// person can do. Devices' errors are package hsm's, those of what was received are a
// credential.Refusal, those of the file are package store's.
type Fault string

const (
	ErrLink        Fault = "holder-link"
	ErrRunning     Fault = "holder-running"
	ErrPause       Fault = "holder-pause"
	ErrDeclined    Fault = "holder-declined"
	ErrUnreachable Fault = "holder-unreachable"
	ErrTLS         Fault = "holder-tls"
	ErrRedirect    Fault = "holder-redirect"
	ErrAnswer      Fault = "holder-answer"
	ErrClock       Fault = "holder-clock"
	ErrSite        Fault = "holder-site-refused"
	ErrIssuer      Fault = "holder-issuer-refused"
	ErrClaimCode   Fault = "holder-claim-code"
	ErrNoCode      Fault = "holder-no-claim-code"
	ErrMetadata    Fault = "holder-issuer-metadata"
	ErrMarked      Fault = "holder-marked"
	ErrNoneLeft    Fault = "holder-none-left"
	ErrNotIssued   Fault = "holder-not-issued"
	ErrBrowser     Fault = "holder-browser"
)

var sentences = map[Fault]string{
	ErrLink:        "this is not a link to sign in with: go back to the website and click its button",
	ErrRunning:     "another sign-in is open on this PC: finish or close it first",
	ErrPause:       "you have just said no: wait half a minute before the next sign-in",
	ErrDeclined:    "you said no: nothing was shown to the website",
	ErrUnreachable: "no answer: check the network connection and try again",
	ErrTLS:         "somebody stands between, or the other side's certificate is not good: use another network, or try again later",
	ErrRedirect:    "the website sent the request elsewhere: it is not safe to go on there",
	ErrAnswer:      "the answer makes no sense: try again later",
	ErrClock:       "the clock of this PC is wrong: set date and time and try again",
	ErrSite:        "the website did not take the sign-in: go back to it and begin again",
	ErrIssuer:      "the issuer gives no credentials for this token: ask at a station",
	ErrClaimCode:   "the code does not fit: read it from the receipt and type it again",
	ErrNoCode:      "the code on the receipt is needed: have it at hand and begin again",
	ErrMetadata:    "the issuer says of itself what its authority does not: collect again later, and tell the authority",
	ErrMarked:      "the credentials differ from other people's and would make you known: they were thrown away",
	ErrNoneLeft:    "no unused credential is left: run holder collect",
	ErrNotIssued:   "the website asks for what your credentials do not say",
	ErrBrowser:     "the browser could not be opened: go back to the website and begin again",
}

func (f Fault) Error() string { return sentences[f] }
