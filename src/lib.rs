//! Odock Edge
