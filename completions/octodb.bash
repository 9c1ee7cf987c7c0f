# bash completion for octodb; made by: octodb completion bash
_octodb() {
  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
  local command="" i words actions=""
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case " connect shell signup login whoami status transactions serve nodes accounts backup restore encrypt verify doctor demo " in *" ${COMP_WORDS[i]} "*) command="${COMP_WORDS[i]}"; break ;; esac
  done
  case "$before" in
    --wait) COMPREPLY=($(compgen -W "ready synced none" -- "$word")); return ;;
    --until) COMPREPLY=($(compgen -W "ready synced queue-empty" -- "$word")); return ;;
    --state) COMPREPLY=($(compgen -W "connected known revoked waiting" -- "$word")); return ;;
  esac
  case "$command" in
    "") words="connect shell signup login whoami status transactions serve nodes accounts backup restore encrypt verify doctor demo -q --quiet --no-color --debug --version -h --help" ;;
    connect) words="-c -f --wait --readonly --data --timeout -h --help" ;;
    shell) words="-c -f --readonly -h --help" ;;
    signup) words="--data --timeout -h --help" ;;
    login) words="--data --timeout -h --help" ;;
    whoami) words="--json -h --help" ;;
    status) words="--watch --json --interval --count --until --timeout -h --help" ;;
    transactions) words="--state --json -h --help" actions="show retry drop export" ;;
    serve) words="--bind --init --accounts --oidc --oidc-audience --oidc-client-id --oidc-jwks --no-sign-up --authorizer -h --help" ;;
    nodes) words="--json --state --user --reason -h --help" actions="authorize refuse revoke" ;;
    accounts) words="--json -h --help" actions="add passwd remove" ;;
    backup) words="--json -h --help" ;;
    restore) words="--check --force --json -h --help" ;;
    encrypt) words="-h --help" ;;
    verify) words="--timeout --json -h --help" ;;
    doctor) words="--json -h --help" ;;
    demo) words="--tour -h --help" ;;
  esac
  if [[ -z $command || $word == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  else
    COMPREPLY=($(compgen -W "$actions" -- "$word") $(compgen -f -- "$word"))
  fi
}
complete -o filenames -F _octodb octodb
