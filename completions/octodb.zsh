#compdef octodb
# zsh completion for octodb; made by: octodb completion zsh
_octodb() {
  local context state state_descr line
  typeset -A opt_args
  _arguments -C \
    '(-q --quiet)'{-q,--quiet}'[Print errors only.]' \
    '--no-color[No colours (as NO_COLOR=1).]' \
    '--debug[Show tracebacks.]' \
    '--version[Print the version.]' \
    '(-h --help)'{-h,--help}'[Show the help.]' \
    '1:command:->command' '*::argument:->arguments'
  case "$state" in
    command)
      local -a commands=(
        'connect:Open a device'\''s database\: sign in, sync, SQL shell.'
        'shell:SQL shell on any database\: a primary, a device, a plain file.'
        'signup:Make an account and sign this device in.'
        'login:Log this device in.'
        'whoami:Say which user and node this database belongs to.'
        'status:What a node is doing\: one look, --watch, or --until for scripts.'
        'transactions:A device'\''s queue and dead letters\: list, show, retry, drop, export.'
        'serve:Run a primary.'
        'nodes:A primary'\''s devices\: list, authorize, refuse, revoke.'
        'accounts:A primary'\''s e-mail accounts\: list, add, passwd, remove.'
        'backup:Copy a database while it is served, and check the copy.'
        'restore:Make a database from a backup, or check a backup.'
        'encrypt:Encrypt a database, change its key, or decrypt it.'
        'verify:Compare a device'\''s rows with its primary'\''s and mend them; check a primary'\''s file.'
        'doctor:Look for what is wrong\: URI, file, DNS, TCP, TLS, protocol, authorization.'
        'demo:See it work\: a primary and devices on this machine.'
      )
      _describe command commands ;;
    arguments)
      case "$line[1]" in
        connect) _arguments '*-c[Run SQL and exit; may be repeated.]:value:_files' '-f[Run a file (or standard input) after every -c, and exit.]:value:_files' '--wait[What to wait for before the first statement.]:value:(ready synced none)' '--readonly[Refuse statements that write.]' '--data[What to send: one JSON object. Else OCTODB_LOGIN_DATA_FILE, else you are asked.]:value:_files' '--timeout[Give up after S seconds without progress (30 when nobody is at the terminal).]:value:_files' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        shell) _arguments '*-c[Run SQL and exit; may be repeated.]:value:_files' '-f[Run a file (or standard input) after every -c, and exit.]:value:_files' '--readonly[Refuse statements that write.]' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        signup) _arguments '--data[What to send: one JSON object. Else OCTODB_LOGIN_DATA_FILE, else you are asked.]:value:_files' '--timeout[Give up after S seconds without progress (30 when nobody is at the terminal).]:value:_files' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        login) _arguments '--data[What to send: one JSON object. Else OCTODB_LOGIN_DATA_FILE, else you are asked.]:value:_files' '--timeout[Give up after S seconds without progress (30 when nobody is at the terminal).]:value:_files' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        whoami) _arguments '--json[One JSON object.]' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        status) _arguments '--watch[Live dashboard; without a terminal one line for each change.]' '--json[JSON lines, each with "v": 1.]' '--interval[Between looks.]:value:_files' '--count[Stop after N looks.]:value:_files' '--until[Wait for this, then exit 0.]:value:(ready synced queue-empty)' '--timeout[With --until: exit 5 after S seconds.]:value:_files' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        transactions) _arguments '--state[Only these.]:value:(pending rejected)' '--json[One JSON object.]' '(-h --help)'{-h,--help}'[Show the help.]' '1: :_alternative "actions:action:(show retry drop export)" "files:database:_files"' '*:database:_files' ;;
        serve) _arguments '--bind[Where to listen: tls:// or tcp://HOST:PORT (0: a free port).]:value:_files' '--init[Run this SQL, in one transaction, if the database is new.]:value:_files' '--accounts[Built-in accounts: e-mail and password.]' '--oidc[Users of an OpenID Connect issuer (its URL) sign in with a token.]:value:_files' '--oidc-audience[Whom tokens must be made for; else the client id.]:value:_files' '--oidc-client-id[Of devices: they ask the issuer for a token themselves.]:value:_files' '--oidc-jwks[The issuer'\''s keys, where they are not those it publishes.]:value:_files' '--no-sign-up[With --accounts or --oidc: only users that are known.]' '--authorizer[Python code, or a service (tcp://HOST:PORT), that decides who may connect.]:value:_files' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        nodes) _arguments '--json[JSON lines.]' '--state[Only these.]:value:(connected known revoked waiting)' '--user[Whose device it is; 0 (default) makes a new user.]:value:_files' '--reason[What its user reads.]:value:_files' '(-h --help)'{-h,--help}'[Show the help.]' '1: :_alternative "actions:action:(authorize refuse revoke)" "files:database:_files"' '*:database:_files' ;;
        accounts) _arguments '--json[JSON lines.]' '(-h --help)'{-h,--help}'[Show the help.]' '1: :_alternative "actions:action:(add passwd remove)" "files:database:_files"' '*:database:_files' ;;
        backup) _arguments '--json[One JSON object.]' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        restore) _arguments '--check[Read BACKUP to its end and make nothing.]' '--force[Where TARGET exists, keep that as TARGET.before-restore.]' '--json[One JSON object.]' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        encrypt) _arguments '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        verify) _arguments '--timeout[Exit 5 after S seconds.]:value:_files' '--json[One JSON object.]' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        doctor) _arguments '--json[JSON lines.]' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
        demo) _arguments '--tour[Run the tour even at a terminal.]' '(-h --help)'{-h,--help}'[Show the help.]' '*:database:_files' ;;
      esac ;;
  esac
}
_octodb "$@"
