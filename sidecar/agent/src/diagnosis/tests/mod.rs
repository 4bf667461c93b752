//! The engine on a made-up pod: `api → catalog → redis`, learnt first, then broken.

mod classes;
mod grouping;
mod life;
mod quiet;
mod shop;
