package words

// Label names a short text that belongs to no screen, action or fault.
type Label string

// The labels.
const (
	App               Label = "app"
	TurnOfficer       Label = "turn-officer"
	TurnCitizen       Label = "turn-citizen"
	TurnMachine       Label = "turn-machine"
	StepOf            Label = "step-of"  // position, positions
	Training          Label = "training" // a root of class test is trusted
	AgentTitle        Label = "agent-title"
	AgentInstruction  Label = "agent-instruction"
	Surname           Label = "surname"
	GivenNames        Label = "given-names"
	Number            Label = "number"
	Birth             Label = "birth"
	Expiry            Label = "expiry"
	Sex               Label = "sex"
	SexFemale         Label = "sex-female"
	SexMale           Label = "sex-male"
	SexOther          Label = "sex-other"
	Nationality       Label = "nationality"
	Issuer            Label = "issuer"
	Proofs            Label = "proofs"
	NoPhoto           Label = "no-photo"
	SecondNeeded      Label = "second-needed" // beside what the document lacks
	DigitsExact       Label = "digits-exact"  // min
	DigitsRange       Label = "digits-range"  // min, max
	Shield            Label = "shield"
	KeyDelete         Label = "key-delete"
	KeyClear          Label = "key-clear"
	UseMRZ            Label = "use-mrz"
	UseCAN            Label = "use-can"
	MRZInstruction    Label = "mrz-instruction"
	MRZNumber         Label = "mrz-number"
	MRZBirth          Label = "mrz-birth"
	MRZExpiry         Label = "mrz-expiry"
	MRZIncomplete     Label = "mrz-incomplete"
	ScanHint          Label = "scan-hint"
	ScanUnclear       Label = "scan-unclear"
	NextField         Label = "next-field"
	PurposeOf         Label = "purpose-of" // index, count
	Required          Label = "required"
	Optional          Label = "optional"
	Sealed            Label = "sealed"
	RegistrySees      Label = "open"
	Agreed            Label = "agreed"
	Identifier        Label = "identifier"
	PageOf            Label = "page-of" // page, pages
	PageBack          Label = "page-back"
	PageOn            Label = "page-on"
	Slow              Label = "slow"
	Record            Label = "record"
	Saved             Label = "saved"
	ReceiptWaiting    Label = "receipt-waiting"
	ReceiptFinal      Label = "receipt-final"
	CancelCode        Label = "cancel-code"
	CancelHint        Label = "cancel-hint"
	ConfirmStopTitle  Label = "confirm-stop-title"
	ConfirmStop       Label = "confirm-stop"
	ConfirmDoubtTitle Label = "confirm-doubt-title"
	ConfirmDoubt      Label = "confirm-doubt"
	GoOn              Label = "go-on"
	SignedOn          Label = "signed-on" // number
	Machine           Label = "machine"
	Connection        Label = "connection"
	Working           Label = "working"
	NotWorking        Label = "not-working"
	Reached           Label = "reached"
	NotReached        Label = "not-reached"
	WaitingRecords    Label = "waiting-records" // count
	NothingWaiting    Label = "nothing-waiting"
	Oldest            Label = "oldest"    // time
	Delivered         Label = "delivered" // time
	SetAside          Label = "set-aside" // count
	ForOfficer        Label = "for-officer"
	Welcome1          Label = "welcome-1"
	Welcome2          Label = "welcome-2"
	Welcome3          Label = "welcome-3"
	Welcome4          Label = "welcome-4"
)
