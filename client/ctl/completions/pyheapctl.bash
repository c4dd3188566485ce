# shellcheck shell=bash disable=SC2207
# SPDX-License-Identifier: MIT
# Completion of pyheapctl for bash.

# The names in the heap. Those that a shell would have to quote are left out.
_pyheapctl_names()
{
	pyheapctl "$@" ls --json 2>/dev/null </dev/null | sed -n 's/^ *{"name": "\([A-Za-z0-9_.,/@%+-]*\)",.*/\1/p'
}

_pyheapctl()
{
	local current=${COMP_WORDS[COMP_CWORD]} previous='' command='' word i n_arguments=0
	local -a socket=()
	COMPREPLY=()
	((COMP_CWORD < 1)) || previous=${COMP_WORDS[COMP_CWORD - 1]}
	# "--socket=PATH" is three words here, and "--socket=" two.
	if [[ $current == = ]]; then
		current=
	elif [[ $previous == = ]]; then
		previous=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	if [[ $previous == --size ]]; then
		return
	fi
	if [[ $previous == --socket ]]; then
		compopt -o filenames 2>/dev/null
		COMPREPLY=($(compgen -f -- "$current"))
		return
	fi

	# What is before the cursor: the socket, the command, how many arguments it has.
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--socket)
			[[ ${COMP_WORDS[i + 1]} != = ]] || i=$((i + 1))
			i=$((i + 1))
			socket=(--socket "${COMP_WORDS[i]}")
			;;
		-?*) ;;
		*)
			if [[ -z $command ]]; then
				command=$word
			else
				n_arguments=$((n_arguments + 1))
			fi
			;;
		esac
	done

	if [[ $current == -* ]]; then
		case $command in
		'') word="--socket --json --repair --yes --size --help --version" ;;
		stats | ls | clients) word="--socket --json --help --version" ;;
		run) word="--socket --size --help --version" ;;
		reset) word="--socket --yes --help --version" ;;
		check) word="--socket --repair --help --version" ;;
		*) word="--socket --help --version" ;;
		esac
		COMPREPLY=($(compgen -W "$word" -- "$current"))
		return
	fi
	case $command:$n_arguments in
	:* | help:0) COMPREPLY=($(compgen -W "stats ls put get rm clients evict reset check run help" -- "$current")) ;;
	put:0 | get:0 | rm:*) COMPREPLY=($(compgen -W "$(_pyheapctl_names "${socket[@]}")" -- "$current")) ;;
	run:*)
		compopt -o filenames 2>/dev/null
		COMPREPLY=($(compgen -c -f -- "$current"))
		;;
	put:1 | get:1)
		compopt -o filenames 2>/dev/null
		COMPREPLY=($(compgen -f -- "$current"))
		;;
	esac
}

complete -F _pyheapctl pyheapctl
