//! Arithmetic modulo a prime, slow and plain, to ask of a point what the program's library should have
//! asked of it.

/// Below 2^384, least limb first; the last one is for carries.
type Number = [u64; 7];

const P256: &str = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";
const P256_B: &str = "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b";
const P384: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff";
const P384_B: &str = "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef";
const P25519: &str = "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed";

/// Whether y^2 = x^3 - 3x + b, for coordinates of a curve's full size (FIPS 186-5).
pub(crate) fn is_on_curve(x: &[u8], y: &[u8]) -> bool {
    let (prime, b) = match x.len() {
        32 => (hexadecimal(P256), hexadecimal(P256_B)),
        _ => (hexadecimal(P384), hexadecimal(P384_B)),
    };
    let field = Field(prime);
    let (x, y) = (big_endian(x), big_endian(y));
    if !minus(&x, &prime).1 || !minus(&y, &prime).1 {
        return false;
    }
    let cube = field.times(&field.times(&x, &x), &x);
    let three = field.plus(&field.plus(&x, &x), &x);
    field.times(&y, &y) == field.plus(&field.minus(&cube, &three), &b)
}

/// Whether eight times the point of Ed25519 with this encoding is nothing, or there is no such point.
/// By its y alone (RFC 8032 section 5.1): of order 1 and 2 it is 1 and -1, of order 4 it is 0, and of
/// order 8 x^2 = -y^2, which in the curve's equation is d y^4 + 2 y^2 = 1, with d = -121665/121666.
pub(crate) fn is_of_small_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    y.reverse();
    y[0] &= 0x7f;
    let field = Field(hexadecimal(P25519));
    let number = |small: u64| [small, 0, 0, 0, 0, 0, 0];
    let y = field.plus(&big_endian(&y), &number(0));
    let square = field.times(&y, &y);
    let fourth = field.times(&square, &square);
    let left = field.times(&square, &number(2 * 121_666));
    let right = field.plus(&field.times(&fourth, &number(121_665)), &number(121_666));
    left == right || square == number(0) || square == number(1)
}

struct Field(Number);

impl Field {
    fn plus(&self, one: &Number, other: &Number) -> Number {
        let mut sum = *one;
        let mut carry = false;
        for at in 0..sum.len() {
            (sum[at], carry) = sum[at].carrying_add(other[at], carry);
        }
        let (reduced, is_less) = minus(&sum, &self.0);
        if is_less { sum } else { reduced }
    }

    fn minus(&self, one: &Number, other: &Number) -> Number {
        self.plus(one, &minus(&self.0, other).0)
    }

    /// By doubling and adding.
    fn times(&self, one: &Number, other: &Number) -> Number {
        let mut product = Number::default();
        let limbs = other.iter().rev().skip_while(|limb| **limb == 0);
        for limb in limbs {
            for at in (0..64).rev() {
                product = self.plus(&product, &product);
                let addend = one.map(|part| part * (limb >> at & 1));
                product = self.plus(&product, &addend);
            }
        }
        product
    }
}

/// The difference, and whether the first is less.
fn minus(one: &Number, other: &Number) -> (Number, bool) {
    let mut difference = *one;
    let mut is_less = false;
    for at in 0..difference.len() {
        (difference[at], is_less) = difference[at].borrowing_sub(other[at], is_less);
    }
    (difference, is_less)
}

fn big_endian(bytes: &[u8]) -> Number {
    let mut number = Number::default();
    for (at, byte) in bytes.iter().rev().enumerate() {
        number[at / 8] |= u64::from(*byte) << (at % 8 * 8);
    }
    number
}

fn hexadecimal(text: &str) -> Number {
    let mut number = Number::default();
    for (at, digit) in text.chars().rev().enumerate() {
        let digit = digit.to_digit(16).expect("a hexadecimal digit");
        number[at / 16] |= u64::from(digit) << (at % 16 * 4);
    }
    number
}
