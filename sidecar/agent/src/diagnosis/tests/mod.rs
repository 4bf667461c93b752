//! The engine on a made-up pod: `api → catalog → redis`, learnt first, then broken.

mod answers;
mod calls;
mod containers;
mod dependencies;
mod expect;
mod grouping;
mod leaks;
mod life;
mod load;
mod locks;
mod machine;
mod names;
mod network;
mod once;
mod operator;
mod pairs;
mod profiles;
mod quiet;
mod requests;
mod shop;
