//! The command line's help texts.

use clap::CommandFactory as _;
use leaktrace::cli::Cli;

#[test]
fn help_of_tracing() {
    insta::assert_snapshot!(Cli::command().term_width(100).render_help());
}

#[test]
fn long_help_of_tracing() {
    insta::assert_snapshot!(Cli::command().term_width(100).render_long_help());
}

#[test]
fn help_of_the_doctor() {
    let mut command = Cli::command().term_width(100);
    command.build();
    insta::assert_snapshot!(command.find_subcommand_mut("doctor").unwrap().render_help());
}

#[test]
fn help_of_the_census() {
    let mut command = Cli::command().term_width(100);
    command.build();
    insta::assert_snapshot!(command.find_subcommand_mut("census").unwrap().render_help());
}

#[test]
fn help_of_replay() {
    let mut command = Cli::command().term_width(100);
    command.build();
    insta::assert_snapshot!(command.find_subcommand_mut("replay").unwrap().render_help());
}

#[test]
fn the_flags_are_consistent() {
    Cli::command().debug_assert();
}
