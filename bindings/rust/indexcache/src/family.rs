// SPDX-License-Identifier: Apache-2.0
//! Families of constants. They are numbers with names, not enums: a newer library may know more of them.

macro_rules! family {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $member:ident = $constant:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(transparent)]
        pub struct $name(pub i32);

        impl $name {
            $($(#[$doc])* pub const $member: Self = Self($crate::ffi::$constant);)+
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.0 {
                    $($crate::ffi::$constant => f.write_str(concat!(stringify!($name), "::", stringify!($member))),)+
                    number => write!(f, concat!(stringify!($name), "({})"), number),
                }
            }
        }
    };
}

macro_rules! flags {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $member:ident = $constant:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$doc])* pub const $member: Self = Self($crate::ffi::$constant);)+

            /// No bit.
            pub const NONE: Self = Self(0);

            /// True when every bit of `other` is set here.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// True when no bit is set.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }
        }

        impl core::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl core::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let mut rest = self.0;
                let mut set = f.debug_set();
                $(
                    if rest & $crate::ffi::$constant != 0 {
                        rest &= !$crate::ffi::$constant;
                        set.entry(&format_args!("{}", stringify!($member)));
                    }
                )+
                if rest != 0 {
                    set.entry(&format_args!("{rest:#x}"));
                }
                set.finish()
            }
        }
    };
}

pub(crate) use {family, flags};
